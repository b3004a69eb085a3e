"""A device without room: one sentence that names the key to change, in status.json and at the terminal."""

import json

import jax
import pytest

import lrjax
from lrjax.errors import LrjaxError
from lrjax.experiment.loop import full_device
from lrjax.experiment.loop.block import Block
from lrjax.main import main
from lrjax.posthoc import __main__ as posthoc
from lrjax.posthoc import cli
from tests.runs import tiny

REPORT = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate {} .\nBufferAssignment:\n  parameters ..."


def raising(message):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError(message)

    return full


@pytest.mark.parametrize(
    ("asked", "told"), [("12500000000 bytes", "12.5 GB"), ("5.20GiB", "5.20 GiB"), ("[size=3]", None)]
)
def test_a_full_device_is_one_sentence_with_the_key_to_change(asked, told, tmp_path, monkeypatch):
    monkeypatch.setattr(Block, "advance", raising(REPORT.format(asked)))
    with pytest.raises(LrjaxError) as caught:
        lrjax.run(tiny(), tmp_path / "run")
    size = f" ({told} more were asked for)" if told else ""
    sentence = (
        f"the device's memory is full{size}: set lanes_per_device below 2, the lanes that a device holds at a time"
    )
    assert str(caught.value) == sentence
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", sentence)


def test_a_single_lane_is_told_of_its_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(Block, "advance", raising(REPORT.format("1 bytes")))
    with pytest.raises(LrjaxError, match="full.*: set remat=True or compute_dtype='bfloat16'"):
        lrjax.run(tiny({"lanes_per_device": 1}), tmp_path / "run")


def test_a_probe_is_named_with_its_batch_size(tmp_path, monkeypatch):
    find = Block.measure

    def measure(self, state, memory, at):
        probes = {
            name: probe._replace(measure=raising(REPORT.format("8 bytes")))
            for name, probe in self.program.probes.items()
        }
        self.program = self.program._replace(probes=probes)
        return find(self, state, memory, at)

    monkeypatch.setattr(Block, "measure", measure)
    with pytest.raises(LrjaxError, match="measuring the probe 'features'; set spectra.batch_size=64"):
        lrjax.run(tiny(), tmp_path / "run")


def test_any_other_error_of_the_device_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(Block, "advance", raising("INTERNAL: an illegal memory access was encountered"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="illegal memory access"):
        lrjax.run(tiny(), tmp_path / "run")


def test_the_terminal_shows_the_sentence_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Block, "advance", raising(REPORT.format("1 bytes")))
    arguments = ["--config=configs/benign_osc.py:CLEAR,scale=smoke", f"--workdir={tmp_path / 'run'}", "--plain_process"]
    assert main(arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(
        "error: the device's memory is full (1e-09 GB more were asked for): set lanes_per_device below"
    )


def test_a_smaller_batch_is_named_where_one_is_set():
    config = tiny({"spectra.batch_size": 512})
    assert full_device.of_probe("spectrum", config).endswith(
        "set spectra.batch_size=256, the examples that a product sees at once"
    )


@pytest.mark.parametrize(("flags", "size"), [([], 64), (["--batch_size=20"], 10)])
def test_curvature_of_checkpoints_is_told_the_flag_to_give(flags, size, tmp_path, monkeypatch, capsys):
    lrjax.run(tiny({"steps": 50, "arms.small_rate": None, "arms.time_matched": None}), tmp_path / "run")
    monkeypatch.setattr(cli, "measure", raising(REPORT.format("5.20GiB")))
    assert posthoc.main([f"--workdir={tmp_path / 'run'}", "--steps=0", *flags]) == 1
    sentence = f"give --batch_size={size}, the examples that a product sees at once"
    assert capsys.readouterr().err == f"error: the device's memory is full (5.20 GiB more were asked for): {sentence}\n"
