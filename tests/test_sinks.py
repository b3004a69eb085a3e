"""TensorBoard and Weights & Biases get what metrics.jsonl has, each step once, and a run does not depend on them."""

import importlib.util
import json
import struct
import sys
import types

import numpy as np
import pytest

import lrjax
from lrjax.errors import LrjaxError
from lrjax.experiment.rundir import metrics, sinks
from tests.runs import RUN, environment, finish, tiny


def wanted(workdir):
    """{name of a lane: {step: {name: value}}} of metrics.jsonl."""
    found, named = {}, sinks.titles(workdir)
    assert len(set(named.values())) == len(lrjax.load_run(workdir).lanes)
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(named[row["lane"]], {})[row["step"]] = sinks.scalars(row)
    return found


def events(folder):
    """(step, name, value) of all event files, in the order in which they were written."""
    from tensorboardX.proto import event_pb2

    found = []
    for path in sorted(folder.glob("events*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            at += 16 + length
    return found


def interrupted(workdir, monkeypatch, name):
    """A run that a key stroke ends after a few rows, and the same run gone on with."""
    append, calls = metrics.Writer.rows, []

    def rows(writer, new):
        append(writer, new)
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(metrics.Writer, "rows", rows)
        with pytest.raises(KeyboardInterrupt):
            lrjax.run(tiny(), workdir, sinks=(name,))
    return lrjax.run(tiny(), workdir, sinks=(name,))


def test_tensorboard_has_each_row_once_also_after_a_run_was_interrupted(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    interrupted(tmp_path, monkeypatch, "tensorboard")
    for lane, rows in wanted(tmp_path).items():
        found = events(tmp_path / "tensorboard" / lane)
        assert len(found) == len({(step, name) for step, name, _ in found})
        assert {step for step, _, _ in found} == set(rows)
        for step, name, value in found:
            np.testing.assert_allclose(value, rows[step][name], rtol=1e-6)


@pytest.fixture
def service(monkeypatch):
    """A stand-in for wandb that remembers what it was told."""
    told = types.ModuleType("wandb")
    told.logged, told.started = {}, []

    def init(**settings):
        told.started.append(settings)
        own = told.logged.setdefault(settings["name"], [])
        return types.SimpleNamespace(log=lambda values, step: own.append((step, values)))

    told.init = init
    monkeypatch.setitem(sys.modules, "wandb", told)
    return told


def test_wandb_is_sent_each_step_once_and_in_order_also_after_a_run_was_interrupted(tmp_path, monkeypatch, service):
    interrupted(tmp_path, monkeypatch, "wandb")
    for lane, rows in wanted(tmp_path).items():
        steps = [step for step, _ in service.logged[lane]]
        assert steps == sorted(rows)
        assert all(values == pytest.approx(rows[step]) for step, values in service.logged[lane])
    again = [settings for settings in service.started if settings["name"] == service.started[0]["name"]]
    assert len(again) == 2
    assert len({settings["id"] for settings in again}) == 1
    assert {settings["resume"] for settings in again} == {"allow"}


def test_wandb_without_a_key_is_one_sentence_before_anything_is_trained(tmp_path, monkeypatch, service):
    service.login = lambda prompt=True, verify=True: bool(prompt or verify)  # as that of wandb where it has no key
    service.setup = lambda: types.SimpleNamespace(settings=types.SimpleNamespace(mode="online"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(LrjaxError, match="has no key here; run `wandb login` or set WANDB_API_KEY; WANDB_MODE=offline"):
        lrjax.run(tiny(), tmp_path, sinks=("wandb",))
    assert lrjax.load_run(tmp_path).metrics == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    lrjax.run(tiny(), tmp_path, sinks=("wandb",))
    assert service.logged


def test_what_keeps_wandb_from_beginning_is_one_sentence(tmp_path, monkeypatch, service):
    def init(**settings):
        raise RuntimeError("the service is away\nand so on")

    service.init = init
    with pytest.raises(LrjaxError, match=r"did not begin a run \(the service is away\); run `wandb login`"):
        lrjax.run(tiny(), tmp_path, sinks=("wandb",))


@pytest.mark.slow
def test_wandb_itself_asks_nothing_without_a_key(tmp_path):
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("the extra wandb is not installed")
    own = {name: value for name, value in environment().items() if not name.startswith("WANDB_")}
    own |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}  # its settings stay in a process, so one of its own
    status, _, err = finish([*RUN[1:], "--sinks=wandb", f"--workdir={tmp_path / 'run'}"], env=own)
    assert status == 1
    assert "error: Weights & Biases has no key here" in err


@pytest.mark.slow
def test_wandb_itself_keeps_a_run_a_lane_offline(tmp_path, monkeypatch):
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = tiny()
    with config.unlocked():
        config.arms = type(config)()
    lrjax.run(config, tmp_path, sinks=("wandb",))
    lanes = wanted(tmp_path)
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == len(lanes)
    ends = [max(rows) for rows in lanes.values()]
    assert json.loads((tmp_path / "wandb.json").read_text()) == {
        f"lane-{n:03d}-main": end for n, end in enumerate(ends)
    }


def test_a_finished_run_is_handed_to_a_sink_and_a_sink_changes_no_number(tmp_path, service):
    plain = lrjax.run(tiny(), tmp_path / "plain")
    watched = lrjax.run(tiny(), tmp_path / "watched", sinks=("wandb",))
    for one, other in zip(plain.arrays, watched.arrays, strict=True):
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)
    first = {lane: list(rows) for lane, rows in service.logged.items()}
    service.logged.clear()
    lrjax.run(tiny(), tmp_path / "plain", sinks=("wandb",))
    assert service.logged == first


def test_what_is_not_finite_is_left_out():
    assert sinks.scalars({"lane": 1, "arm": "a", "step": 2, "loss": float("inf"), "x": None, "rate": 0.5}) == {
        "rate": 0.5
    }


@pytest.mark.parametrize("name", sinks.SINKS)
def test_a_sink_without_its_package_names_the_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, {"tensorboard": "tensorboardX.event_file_writer", "wandb": "wandb"}[name], None)
    with pytest.raises(LrjaxError, match=rf"pip install {name}\w* \(the extra {name}\)"):
        sinks.SINKS[name](tmp_path, {}, [])


def test_an_unknown_sink_is_answered_with_the_known_ones():
    with pytest.raises(LrjaxError, match="no sink 'tensorbord'.*tensorboard"):
        sinks.named("tensorbord")
