"""Each premise holds for a run that satisfies it, and fails, with its number, for one that does not."""

from types import SimpleNamespace

import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.lanes import NotMeasured
from lrjax.papers import premises
from lrjax.papers.claim import Claim, Finding, judge
from lrjax.papers.premise import held
from lrjax.papers.premises import every_lane, last_of, of_arms

STEPS = np.arange(0, 101, 5)


def lane(arm="main", seed=0, **more):
    return {"lane": 0, "arm": arm, "seed": seed, "values": {"seed": seed}, "steps": 100, "diverged_at": None} | more


def run(*pairs, **config):
    lanes, arrays = zip(*pairs, strict=True) if pairs else ((), ())
    full = {"experiment": "E", "scale": "small", **config}
    return SimpleNamespace(lanes=list(lanes), arrays=list(arrays), config=full, status={})


def series(values, name="probe/x"):
    return {"probe/step": STEPS, name: np.broadcast_to(np.asarray(values, float), STEPS.shape)}


def outcome(premise, made):
    return premise.evaluate(made)


THREE = [(lane(seed=seed), series(0.5)) for seed in range(3)]
RISING = series(STEPS / 100)
EARLY = series(np.exp(-((STEPS - 40) ** 2) / 200))
LATE = series(np.exp(-((STEPS - 90) ** 2) / 200))
FLAT = series(np.minimum(STEPS, 50) / 50)
CASES = {
    "seeds": (premises.seeds(3), run(*THREE), run(*THREE[:2]), "2 seeds in main"),
    "seeds of each arm": (
        premises.seeds(2),
        run(*THREE),
        run(*THREE, (lane("other"), series(0.5))),
        "1 seed in other, the fewest of 2",
    ),
    "the same seed twice": (premises.seeds(2), run(*THREE), run(THREE[0], THREE[0]), "1 seed in main"),
    "learned": (
        premises.learned(every_lane, 0.9, read=last_of("probe/x"), chance=0.1, examples=1000, level=0.5),
        run(*THREE),
        run(*THREE, (lane("weak"), series(0.44))),
        "0.440 in weak seed 0",
    ),
    "learned against the best arm": (
        premises.learned(of_arms("main"), 0.9, read=last_of("probe/x"), chance=0.1, examples=1000),
        run(*THREE),
        run(*THREE, (lane("best"), series(0.6))),
        "0.540 is asked for",
    ),
    "above chance": (
        premises.learned(every_lane, 0.1, read=last_of("probe/x"), chance=0.1, examples=1000, level=0.5),
        run(*THREE),
        run((lane(), series(0.14))),
        "0.147 is asked for",
    ),
    "converged": (
        premises.converged(every_lane, 0.05, "probe/x"),
        run((lane(), FLAT)),
        run((lane(), FLAT), (lane("slow"), RISING)),
        "0.1 of its range at the end of slow",
    ),
    "peaked": (
        premises.peaked("probe/x"),
        run((lane(), EARLY)),
        run((lane(), EARLY), (lane("late"), LATE)),
        "90% of the run in late",
    ),
    "matched": (
        premises.matched({"steps": lambda run, lane, arrays: lane["steps"]}),
        run(*THREE),
        run(*THREE, (lane("long", steps=200), series(0.5))),
        "100 in main seed 0, 200 in long seed 0",
    ),
    "matched in one seed of a setting": (
        premises.matched({"steps": lambda run, lane, arrays: lane["steps"]}),
        run(*THREE),
        run((lane(seed=0, steps=50), series(0.5)), *THREE[1:]),
        "50 in main seed 0, 100 in main seed 1",
    ),
    "unsaturated": (
        premises.unsaturated(every_lane, read=last_of("probe/x")),
        run(*THREE),
        run(*THREE, (lane("full"), series(0.985))),
        "0.985 in full seed 0",
    ),
    "unsaturated below": (
        premises.unsaturated(every_lane, read=last_of("probe/x")),
        run(*THREE),
        run((lane(), series(0.01))),
        "closest to 0 or 1",
    ),
    "instrument": (
        premises.instrument("probe/x", 0.05),
        run((lane(), series(0.01))),
        run((lane(), series(0.01)), (lane("rough"), series(0.2))),
        "0.2 in rough",
    ),
    "instrument, in units of what was measured": (
        premises.instrument("probe/x", 0.05, of="probe/size"),
        run((lane(), series(0.2) | {"probe/size": np.full(len(series(0.2)["probe/x"]), 10.0)})),
        run((lane("rough"), series(0.2) | {"probe/size": np.ones(len(series(0.2)["probe/x"]))})),
        "x / size 0.2 in rough",
    ),
    "instrument with few samples": (
        premises.instrument("probe/x", 0.05, samples=5),
        run((lane(), series(0.01))),
        run((lane(), {"probe/x": np.array([0.01, 0.01])})),
        "2 measurements in main",
    ),
    "resolved": (
        premises.resolved(1.0, lambda run: [lane["seed"] / 10 for lane in run.lanes], lambda run: False),
        run(*THREE),
        run(*[(lane(seed=seed), {}) for seed in (0, 20, 40)]),
        "half of the interval is 4.97",
    ),
    "resolved against a wrong variant": (
        premises.resolved(1.0, lambda run: [0.0, 0.1, 0.2], lambda run: len(run.lanes) < 3),
        run(*THREE),
        run(*THREE[:2]),
        "the wrong variant passes too",
    ),
    "exact": (
        premises.exact(),
        run((lane(), {"step/loss": np.zeros(3)}), compute_dtype="float64"),
        run((lane(), {"step/loss": np.zeros(3, np.float32)}), compute_dtype="float64"),
        "float32",
    ),
    "exact by more than the dtype of the loss": (
        premises.exact(),
        run((lane(), {"step/loss": np.zeros(3)}), compute_dtype="float64"),
        run((lane(), {"step/loss": np.zeros(3)}), compute_dtype="float32"),
        "float32",
    ),
    "exact by a control": (
        premises.exact(lambda run: float(run.lanes[0]["steps"]), most=100),
        run((lane(), {"step/loss": np.zeros(3, np.float32)})),
        run((lane(steps=101), {"step/loss": np.zeros(3, np.float32)})),
        "parts by 1e+02",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_premise_holds_or_fails_with_its_number(name):
    premise, good, bad, words = CASES[name]
    assert premise.evaluate(good).holds
    failed = premise.evaluate(bad)
    assert not failed.holds
    assert words in failed.measured


@pytest.mark.parametrize("name", CASES)
def test_a_claim_whose_premise_fails_is_not_judged_whatever_its_check_says(name):
    premise, good, bad, words = CASES[name]
    checks = [lambda run: Finding("contradicted", "x"), lambda run: 1 / 0]
    for check in checks:
        claim = Claim("c", "p", ("E",), "", "", "", check, premises=(premise,))
        entry = judge([claim], bad)[0]
        assert entry["verdict"] == "not judged"
        assert premise.name in entry["measured"]
        assert words in entry["measured"]
    entry = judge([Claim("c", "p", ("E",), "", "", "", checks[0], premises=(premise,))], good)[0]
    assert entry["verdict"] == "contradicted"
    assert entry["premises"][0]["holds"]


def test_a_premise_about_what_was_not_recorded_does_not_hold():
    premise = premises.peaked("probe/y")
    claim = Claim("c", "p", ("E",), "", "", "", lambda run: Finding("supported", ""), premises=(premise,))
    entry = judge([claim], run(*THREE))[0]
    assert entry["verdict"] == "not judged"
    assert "probe/y was not recorded" in entry["premises"][0]["measured"]
    with pytest.raises(NotMeasured):
        premise.evaluate(run(*THREE))


def test_all_premises_are_shown_and_the_first_that_fails_is_the_text():
    both = (premises.seeds(9), premises.peaked("probe/x"), premises.seeds(1))
    claim = Claim("c", "p", ("E",), "", "", "", lambda run: Finding("supported", ""), premises=both)
    entry = judge([claim], run((lane(), LATE)))[0]
    assert [premise["holds"] for premise in entry["premises"]] == [False, False, True]
    assert entry["measured"].startswith("not judged: seeds(9) does not hold: 1 seed")


def test_an_arm_that_is_missing_does_not_pass_unseen():
    entry = premises.seeds(3, of_arms("main", "other"))
    with pytest.raises(NotMeasured, match="no lane other"):
        entry.evaluate(run(*THREE))
    assert entry.evaluate(run(*THREE, *[(lane("other", seed), series(0.5)) for seed in range(3)])).holds


def test_diverged_lanes_are_no_seeds():
    assert not premises.seeds(3).evaluate(run(*THREE[:2], (lane(seed=2, diverged_at=4), series(0.5)))).holds


def test_two_premises_of_one_name_are_refused():
    with pytest.raises(LrjaxError, match="same name"):
        held((premises.seeds(3), premises.seeds(3)), run(*THREE))
