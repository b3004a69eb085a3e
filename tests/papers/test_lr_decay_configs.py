"""Configs of learning-rate decay: what is not the claim is the same in the compared arms, at every scale."""

import functools

import pytest

import lrjax
from lrjax.experiment.config.durations import due
from lrjax.experiment.loop.sweep import expand

SPEC = "configs/lr_decay.py"
DECIDABLE = (
    "L3",
    "L4",
    "L5",
    "L6",
    "L7_ps10",
    "L9",
    "L10",
    "L11",
    "L12",
)  # at small scale; the others are demonstrations there


@functools.cache
def lanes_of(experiment, scale):
    groups = expand(lrjax.load_config(f"{SPEC}:{experiment},scale={scale}"))
    return [lane for group in groups for lane in group.lanes]


@pytest.mark.parametrize("experiment", DECIDABLE)
def test_small_runs_that_can_decide_have_three_seeds_of_every_arm(experiment):
    seeds = {}
    for lane in lanes_of(experiment, "small"):
        seeds.setdefault(lane.arm, set()).add(lane.config.seed)
    assert min(map(len, seeds.values())) >= 3


@pytest.mark.parametrize("experiment", [*DECIDABLE, "L1", "L2", "L7", "L8"])
def test_paper_scale_has_three_seeds_of_every_arm(experiment):
    seeds = {}
    for lane in lanes_of(experiment, "paper"):
        seeds.setdefault(lane.arm, set()).add(lane.config.seed)
    assert min(map(len, seeds.values())) >= 3


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_full_batches_are_never_shuffled(scale):
    for experiment, full in (("L5", ("full_batch", "full_batch_decay", "gradient_descent")), ("L1", None)):
        orders = {lane.config.order for lane in lanes_of(experiment, scale) if full is None or lane.arm in full}
        assert orders == {"cyclic"}


def test_compared_arms_of_the_stages_take_equal_steps():
    for experiment, scale in (("L3", "small"), ("L3", "paper"), ("L4", "small"), ("L4", "paper")):
        assert len({lane.config.steps for lane in lanes_of(experiment, scale)}) == 1


def test_sgd_on_images_decays_at_thirty_sixty_and_a_hundred_of_150_epochs():
    lanes = lanes_of("L2", "paper")
    assert {lane.config.steps for lane in lanes} == {150 * 390}
    assert {lane.config.schedule.milestones for lane in lanes if lane.arm != "constant"} == {
        (30 * 390,),
        (60 * 390,),
        (100 * 390,),
    }


def test_gradient_descent_is_run_at_each_other_setting_of_its_optimizer():
    found = {lane.arm: lane.config.optimizer for lane in lanes_of("L1", "paper")}
    assert found["larger_decay_1"].learning_rate == 0.5
    assert found["momentum_decay_1"].momentum == 0.9
    assert found["l2_decay_1"].l2 == 5e-4
    assert (found["decay_1"].momentum, found["decay_1"].l2) == (None, None)


def test_mutual_information_is_estimated_on_all_test_images():
    assert {lane.config.data.num_test for lane in lanes_of("L9", "small")} == {None}


@pytest.mark.parametrize("experiment", [*DECIDABLE, "L1", "L2", "L7", "L8"])
def test_medium_scale_has_three_seeds_of_every_arm_and_fewer_steps_than_paper_scale(experiment):
    seeds = {}
    medium, paper = lanes_of(experiment, "medium"), lanes_of(experiment, "paper")
    for lane in medium:
        seeds.setdefault(lane.arm, set()).add(lane.config.seed)
    assert set(map(len, seeds.values())) == {3}
    assert sum(lane.config.steps for lane in medium) < sum(lane.config.steps for lane in paper)


@pytest.mark.parametrize("experiment", ["L4", "L5"])
def test_each_lane_of_the_instruments_has_ten_measurements(experiment):
    for lane in lanes_of(experiment, "small"):
        assert sum(due(lane.config.probes.spectrum, at) for at in range(lane.config.steps + 1)) >= 10
        assert lane.config.probes.batch_sharpness == lane.config.probes.spectrum
