"""Grids, zips and chains of points, and the axes that hold them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrjax.errors import LrjaxError
from lrjax.experiment.config.axes import as_axes, chain, crossed, grid, product, replaced, without, zipped

POINTS = st.lists(st.fixed_dictionaries({"a.b": st.integers(0, 3), "c": st.integers(0, 3)}), min_size=1).map(chain)


@given(POINTS)
def test_the_axes_of_points_have_these_points_and_no_others(points):
    def as_set(some):
        return {tuple(sorted(point.items())) for point in some}

    found = product(as_axes(points))
    assert len(found) == len(points)
    assert as_set(found) == as_set(points)


@given(POINTS, st.sampled_from(["a.b", "c"]))
def test_without_a_key_the_others_keep_each_of_their_values_once(points, key):
    (other,) = {"a.b", "c"} - {key}
    left = product(without({"a.b,c": tuple((p["a.b"], p["c"]) for p in points)}, {key}))
    assert [point[other] for point in left] == list(dict.fromkeys(point[other] for point in points))


def test_numbers_of_numpy_become_those_of_python():
    (point, _) = grid({"optimizer.learning_rate": np.linspace(0.5, 1.0, 2), "milestones": [[1, 2]]})
    assert repr(point) == "{'optimizer.learning_rate': 0.5, 'milestones': (1, 2)}"


def test_a_new_axis_takes_the_place_of_those_of_its_keys():
    axes = {"e": (0.5,), "seed,steps": ((0, 10), (1, 20)), "steps,e": ((30, 0.9),)}
    assert replaced(axes, {"steps,e"}) == {"seed": (0, 1), "steps,e": ((30, 0.9),)}


BAD = {
    "lengths": (lambda: zipped({"a": (1, 2), "b": (1,)}), "a has 2, b has 1"),
    "no value": (lambda: grid({"a": ()}), "the axis a has no value"),
    "one value": (lambda: grid({"a": 3}), r"the axis a=3 is one value; write \(3,\)"),
    "a word": (lambda: grid({"a": "xyz"}), r"write \('xyz',\)"),
    "twice": (lambda: crossed(grid({"a": (1,)}), grid({"a": (2,)})), "both set a"),
    "a short tuple": (lambda: product({"a,b": ((1, 2), (3,))}), "give a tuple of 2 for each point"),
    "two axes of a key": (lambda: product({"a": (1,), "a,b": ((1, 2),)}), "a stands in sweep.a and in sweep.a,b"),
}


@pytest.mark.parametrize(("wrong", "sentence"), BAD.values(), ids=BAD)
def test_wrong_axes_end_in_one_sentence(wrong, sentence):
    with pytest.raises(LrjaxError, match=sentence):
        wrong()
