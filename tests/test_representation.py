"""One training in several representations through the loop: the same functions, in range without end, refused where not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrjax
from lrjax.errors import LrjaxError
from lrjax.experiment.loop import train
from lrjax.experiment.loop.sweep import expand as lanes_of
from lrjax.experiment.rundir.metrics import Writer
from lrjax.transforms import follow_plan, texp, texp_tables
from tests.runs import assert_same_run

# A normalised linear unit on a halfspace, near the limit: .2 * .01 of .00263 at momentum .9.
SETTINGS = {
    "arms": None, "sweep.seed": (0,), "data.name": "halfspace", "data.dim": 20, "data.n": 4096, "loss": "logistic",
    "batch_size": 8, "steps": 300, "log_every": 25, "checkpoint_every": 100, "optimizer.learning_rate": 0.2,
    "optimizer.l2": 0.01, "optimizer.momentum": 0.9, "schedule.name": "step_decay", "schedule.milestones": (100, 200),
    "lane_loop": "map", "probes.target_angle": 25,
}  # fmt: skip
FORMS = ("weight_decay", "wd_free", "texp")


def config(forms=FORMS, **overrides):
    made = lrjax.load_config("configs/exp_lr.py:E7")
    with made.unlocked():
        made.arms = {}
    settings = {key: value for key, value in SETTINGS.items() if key != "arms"}
    arms = {f"arms.{name}.representation": name for name in forms}
    return lrjax.experiment.config.overrides.apply_overrides(
        made, settings | arms | {k.replace("__", "."): v for k, v in overrides.items()}
    )


def arrays(made, workdir):
    result = lrjax.run(made, workdir)
    return {lane["arm"]: own for lane, own in zip(result.lanes, result.arrays, strict=True)}


def parted(one, other):
    """The largest difference of what two runs compute: their margins at every step."""
    return np.abs(one["step/margin"] - other["step/margin"]).max()


@pytest.mark.slow
@pytest.mark.x64
def test_all_forms_compute_the_same_functions_at_every_step_across_gauges(tmp_path):
    found = arrays(config(), tmp_path)
    for name in ("wd_free", "texp"):
        assert parted(found["weight_decay"], found[name]) < 1e-8, name
        np.testing.assert_allclose(found[name]["step/angle"], found["weight_decay"]["step/angle"], rtol=1e-6)


@pytest.mark.x64
def test_without_its_corrections_texp_is_another_run(tmp_path):
    found = arrays(config(("weight_decay", "texp"), correct_buffer=False), tmp_path)
    assert parted(found["weight_decay"], found["texp"]) > 1e-2


@pytest.mark.slow
@pytest.mark.x64
def test_texp_without_drops_is_a_weight_decay_that_drops(tmp_path):
    drops = {"name": "step_decay", "milestones": (100, 200)}
    made = config((), **{f"arms.l2.l2_schedule.{k}": v for k, v in drops.items()})
    overrides = {"arms.l2.schedule.name": "constant", "arms.no_drop": {"representation": "texp_no_drop"}}
    found = arrays(lrjax.experiment.config.overrides.apply_overrides(made, overrides), tmp_path)
    assert parted(found["l2"], found["no_drop"]) < 1e-7
    assert set(found["l2"]["step/l2"].round(6)) == {0.01, 0.001, 0.0001}


@pytest.mark.x64
@pytest.mark.parametrize("schedule", ["cosine", "large_step"])
def test_wd_free_follows_schedules_that_texp_has_no_form_for(tmp_path, schedule):
    made = config(("weight_decay", "wd_free"), schedule__name=schedule, schedule__growth=1.005)
    found = arrays(made, tmp_path)
    assert parted(found["weight_decay"], found["wd_free"]) < 1e-7


@pytest.mark.x64
def test_records_say_scale_norm_and_effective_rate_of_both_gauges(tmp_path):
    found = arrays(config(), tmp_path)
    reference = found["weight_decay"]
    for name in ("wd_free", "texp"):
        own = found[name]
        np.testing.assert_allclose(
            own["step/log10_norm"] + own["step/log10_scale"], reference["step/log10_norm"], atol=1e-6
        )
        alpha = 10 ** np.diff(own["step/log10_scale"])
        effective = own["step/log10_effective_rate"][:-1] + np.log10(alpha)
        np.testing.assert_allclose(effective, reference["step/log10_effective_rate"][:-1], atol=1e-6)


@pytest.mark.slow
def test_a_run_whose_rate_leaves_float32_by_far_stays_finite(tmp_path):
    made = config(("weight_decay", "wd_free"), steps=6000, schedule__name="constant", checkpoint_every=6000)
    found = arrays(made, tmp_path)
    own = found["wd_free"]
    assert own["step/log10_learning_rate"][-1] > 80
    assert np.isfinite(own["step/loss"]).all()
    late = slice(-3000, None)
    assert abs(own["step/loss"][late].mean() - found["weight_decay"]["step/loss"][late].mean()) < 0.02


class Killed(BaseException):
    """Ends a run after a checkpoint."""


def test_a_killed_run_without_weight_decay_ends_with_the_bits_of_an_unkilled_one(tmp_path, monkeypatch):
    made = config(("wd_free",), steps=400, schedule__name="constant")
    lrjax.run(made, tmp_path / "whole")
    flush, calls = Writer.flush, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        flush(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "flush", dying)
        with pytest.raises(Killed):
            train.run(made, tmp_path / "killed")
    lrjax.run(made, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer__name": "adam", "optimizer__momentum": None}, "set optimizer.name='sgd'"),
        ({"optimizer__l2": None}, "give optimizer.l2"),
        ({"averaging": "ema"}, "average in the run with weight decay"),
        ({"schedule__name": "cosine", "forms": ("texp",)}, "take 'wd_free'"),
        ({"optimizer__l2": 0.05}, "no exponential schedule equals this run from step"),
        ({"rule__name": "auto_decay"}, "planned before; set it to 'none'"),
        ({"fine_tune__head_rate": 10.0}, "need representation='weight_decay'"),
        ({"probes__hessian_trace": 25}, "probes.hessian_trace would measure weights in a changing scale"),
        ({"representation": "exponential"}, "unknown representation 'exponential'"),
        ({"l2_schedule__name": "cosine", "forms": ("texp",)}, "has no scheduled weight decay"),
    ],
)
def test_what_has_no_twin_is_refused_in_one_sentence_before_anything_runs(overrides, message):
    forms = overrides.pop("forms", ("wd_free",) if "representation" not in overrides else ())
    with pytest.raises(LrjaxError, match=message.replace(".", r"\.")):
        lanes_of(config(forms, **overrides))


def test_a_network_that_knows_the_scale_of_its_weights_is_refused_with_the_layer(tmp_path):
    with pytest.raises(LrjaxError, match=r"changes them by 1\.9, because of w \("):
        lrjax.run(config(("wd_free",), model__normalised=False), tmp_path)


@pytest.mark.x64
@pytest.mark.parametrize("instant_drop", [True, False])
def test_texp_as_tables_takes_the_steps_of_texp(instant_drop):
    arguments = (7, 12), (0.2, 0.02, 0.002), 0.01, 0.9
    tables, _ = texp_tables(*arguments, num_steps=20, instant_drop=instant_drop)
    one, other = texp(*arguments, instant_drop=instant_drop), follow_plan(tables)
    params = [jnp.asarray([0.3, -2.0])] * 2
    states = [one.init(params[0]), other.init(params[1])]
    rng = np.random.default_rng(0)
    for _ in range(20):
        gradient = jnp.asarray(rng.normal(size=2))
        for i, tx in enumerate((one, other)):
            updates, states[i] = tx.update(gradient, states[i], params[i])
            params[i] = optax.apply_updates(params[i], updates)
        np.testing.assert_allclose(*params, rtol=1e-12)
    uncorrected, _ = texp_tables(*arguments, num_steps=20, instant_drop=instant_drop, correct_start=False)
    assert jax.tree.map(lambda a, b: bool((a == b).all()), uncorrected, tables).correction[0] is False
