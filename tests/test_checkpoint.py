"""A checkpoint gives back every bit, of the newest state that is whole."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from lrjax.devices.parallel import make_mesh
from lrjax.errors import LrjaxError
from lrjax.experiment.loop.block import program
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.rundir.checkpoint import Checkpoints, finished, fitted, read, read_meta, stored_steps
from tests.runs import equal_trees, tiny


class State(NamedTuple):
    """Fields whose order is not that of their names."""

    step: Any
    params: Any
    average: Any
    opt_state: Any


def state_at(step):
    random = np.random.default_rng(step)
    weights = random.normal(size=(3, 4)).astype(np.float32)
    weights[0, :3] = np.nan, -0.0, np.inf
    return State(np.int32(step), {"w": weights, "b": np.zeros((), np.float32)}, (), ({"trace": weights + 1}, ()))


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "block-000")
    yield made
    made.close()


def bits(tree):
    return tree._asdict() if isinstance(tree, State) else tree


def test_a_restored_state_has_the_bits_and_the_type_of_the_saved_one(checkpoints):
    checkpoints.save(4, state_at(4), {"offset": 10, "lanes": [{"last_finite_loss": 0.5, "diverged_at": None}]})
    state, meta = checkpoints.restore(state_at(0))
    assert isinstance(state, State)
    assert equal_trees(bits(state), bits(state_at(4)))
    assert (meta["step"], meta["offset"]) == (4, 10)
    assert meta["lanes"] == [{"last_finite_loss": 0.5, "diverged_at": None}]


def test_without_a_template_the_same_bits_come_back_as_dicts_and_lists(checkpoints):
    checkpoints.save(4, state_at(4), {})
    state, _ = checkpoints.restore()
    assert equal_trees(state, bits(state_at(4)))


def test_the_newest_two_are_kept_and_the_newest_is_taken(checkpoints):
    for step in (2, 4, 10):
        checkpoints.save(step, state_at(step), {})
    assert checkpoints.restore(state_at(0))[1]["step"] == 10
    assert [meta["step"] for meta in sorted(read_meta(checkpoints.folder), key=lambda m: m["step"])] == [4, 10]


@pytest.mark.parametrize(("keep", "kept"), [(1, [10]), (3, [4, 6, 10]), ("all", [2, 4, 6, 10])])
def test_as_many_as_wanted_are_kept_and_the_newest_is_taken(keep, kept, tmp_path):
    checkpoints = Checkpoints(tmp_path / "block-000", keep)
    for step in (2, 4, 6, 10):
        checkpoints.save(step, state_at(step), {})
    assert checkpoints.restore(state_at(0))[1]["step"] == 10
    checkpoints.close()
    assert stored_steps(checkpoints.folder) == kept


def test_of_all_checkpoints_a_damaged_newest_falls_back_to_the_one_before(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "block-000", "all")
    for step in (2, 4, 10):
        checkpoints.save(step, state_at(step), {})
    checkpoints.close()
    (checkpoints.folder / "10" / "state" / "_METADATA").write_text("{")
    assert checkpoints.restore(state_at(0))[1]["step"] == 4
    checkpoints.close()
    assert stored_steps(checkpoints.folder) == [2, 4]
    assert "block-000/10 is damaged" in capsys.readouterr().err


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_any_stored_step_is_read_without_a_change_on_disk(checkpoints):
    for step in (2, 4):
        checkpoints.save(step, state_at(step), {"offset": step})
    checkpoints.close()
    before = files_of(checkpoints.folder)
    state, meta = read(checkpoints.folder, 2)
    assert (meta["step"], meta["offset"]) == (2, 2)
    assert equal_trees(bits(fitted(state, state_at(0))), bits(state_at(2)))
    assert files_of(checkpoints.folder) == before


def test_a_damaged_checkpoint_is_refused_by_a_reader_and_stays(checkpoints):
    for step in (2, 4):
        checkpoints.save(step, state_at(step), {})
    checkpoints.close()
    record = checkpoints.folder / "2" / "meta" / "metadata"
    record.write_text((checkpoints.folder / "4" / "meta" / "metadata").read_text())
    before = files_of(checkpoints.folder)
    with pytest.raises(LrjaxError, match="block-000/2 is damaged .its checksum does not match.; leave step 2 out"):
        read(checkpoints.folder, 2)
    assert files_of(checkpoints.folder) == before
    assert stored_steps(checkpoints.folder) == [2, 4]


def test_a_state_of_other_shapes_does_not_fit():
    assert fitted({"w": np.zeros(2)}, {"w": np.zeros(3)}) is None
    assert fitted({"w": np.zeros(2)}, {"v": np.zeros(2)}) is None
    assert fitted({"w": np.zeros(2, np.float32)}, {"w": np.zeros(2)}) is None


@pytest.mark.parametrize("keep", [0, -1, 2.5, "al", None])
def test_what_to_keep_is_a_number_or_all(keep):
    with pytest.raises(LrjaxError, match="keep_checkpoints=.* must be 'all' or a number, 1 or more"):
        expand(tiny({"keep_checkpoints": keep}))


def test_what_is_kept_is_no_part_of_the_compiled_program():
    few, every = (expand(tiny({"keep_checkpoints": keep}))[0].static for keep in (2, "all"))
    mesh = make_mesh(1, 1, 1)
    assert every.keep_checkpoints == "all"
    assert program(few, mesh) is program(every, mesh)


def test_saving_a_step_again_replaces_it(checkpoints):
    checkpoints.save(4, state_at(4), {"offset": 1})
    checkpoints.save(4, state_at(5), {"offset": 2})
    state, meta = checkpoints.restore(state_at(0))
    assert equal_trees(bits(state), bits(state_at(5)))
    assert meta["offset"] == 2


def test_nothing_is_restored_from_an_empty_place(checkpoints, tmp_path):
    assert checkpoints.restore(state_at(0)) is None
    assert not checkpoints.folder.exists()
    assert finished(tmp_path / "block-000") is None


def test_a_checksum_sees_leaves_that_changed_places(checkpoints, capsys):
    """Two leaves of one shape: the bytes in any order must not do."""
    checkpoints.save(2, state_at(2), {})
    swapped = state_at(4)
    checkpoints.save(4, swapped, {})
    record = checkpoints.folder / "4" / "meta" / "metadata"
    other = state_at(4)._replace(params={"w": swapped.opt_state[0]["trace"], "b": swapped.params["b"]})
    other = other._replace(opt_state=({"trace": swapped.params["w"]}, ()))
    text = record.read_text()
    checkpoints.save(4, other, {})
    record.write_text(text)
    checkpoints.close()
    assert checkpoints.restore(state_at(0))[1]["step"] == 2
    assert "checksum does not match" in capsys.readouterr().err


@pytest.mark.parametrize("params", [{"w": np.zeros((5, 4), np.float32), "b": np.float32(0)}, {"w": np.float32(0)}])
def test_a_whole_state_of_other_shapes_is_refused_and_kept(params, checkpoints):
    checkpoints.save(4, state_at(4), {})
    with pytest.raises(LrjaxError, match="is not one of this version's; run with --fresh"):
        checkpoints.restore(state_at(0)._replace(params=params))
    assert checkpoints.restore(state_at(0))[1]["step"] == 4


def test_a_block_is_finished_when_its_last_whole_checkpoint_says_so(checkpoints):
    checkpoints.save(2, state_at(2), {"finished": False})
    assert finished(checkpoints.folder) is None
    checkpoints.save(4, state_at(4), {"finished": True})
    assert finished(checkpoints.folder)["step"] == 4
    data = max((p for p in (checkpoints.folder / "4").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data.write_bytes(data.read_bytes()[:-7])
    assert finished(checkpoints.folder) is None


def test_a_failed_save_keeps_the_one_before(checkpoints, monkeypatch):
    checkpoints.save(2, state_at(2), {})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(LrjaxError, match=r"step 4.*disk full.*run the same command again"):
            checkpoints.save(4, state_at(4), {})
    assert checkpoints.restore(state_at(0))[1]["step"] == 2
