"""When a probe measures: dense early, sparse late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrjax import LrjaxError
from lrjax.experiment.config.durations import due, phases
from lrjax.experiment.loop.resolve import resolve
from tests.probes.problem import config

PER_EPOCH = 7
STEPS = st.integers(1, 30)


@st.composite
def written(draw):
    """Phases as a user writes them, and as (every, until) in steps."""
    text, found, stop = [], [], 0
    for _ in range(draw(st.integers(0, 3))):
        epochs, every = draw(st.booleans()), draw(STEPS)
        stop += PER_EPOCH * draw(STEPS) if epochs and stop % PER_EPOCH == 0 else draw(STEPS)
        until = f"{stop // PER_EPOCH} epochs" if epochs and stop % PER_EPOCH == 0 else f"{stop}"
        text.append(f"{every} until {until}")
        found.append((every, stop))
    last = draw(st.none() | STEPS)
    return ", ".join([*text, "end" if last is None else f"{last} steps"]), found, last


@given(written())
def test_every_step_belongs_to_the_first_phase_that_has_not_ended(case):
    text, early, last = case
    wanted, begin = set(), 0
    for every, stop in early:
        wanted |= {at for at in range(begin, stop + 1) if at % every == 0}
        begin = stop + 1
    wanted |= {at for at in range(begin, 300) if last and at % last == 0}
    read = phases(text, PER_EPOCH, "probes.x")
    assert {at for at in range(300) if due(read, at)} == {at for at in wanted if at < 300}


@pytest.mark.parametrize(("when", "read"), [(250, ((250, None),)), ("2 epochs", ((14, None),)), ("end", ())])
def test_a_single_time_is_a_phase_without_end(when, read):
    assert phases(when, PER_EPOCH, "probes.x") == read


WRONG = {
    "10 until 20": "does not say what comes after",
    "10, 20": "'10' has no end",
    "10 until 20, 10 until 20, end": r"must be positive and ascend; here they are \[20, 20\]",
    "10 until 0, end": "must be positive and ascend",
    "10 until soon, end": "'soon' is no duration",
    "often until 20, end": "'often' is no duration",
    "10 until 20, later": "'later' is no duration",
    "": "'' is no duration",
    "15 until 20, 10": "probes.spectrum=15 must be 'end' or a multiple of log_every=10",
    "10 until 20, 0": "probes.spectrum=0 must be 'end' or a multiple of log_every=10",
}


@pytest.mark.parametrize("when", WRONG)
def test_what_is_no_time_is_refused_with_the_reason(when):
    with pytest.raises(LrjaxError, match=WRONG[when]):
        resolve(config(**{"probes.spectrum": when}))
