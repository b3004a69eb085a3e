"""`python -m tests.gpu` on the device of this process: on a card with `JAX_PLATFORMS=cuda,cpu pytest -m gpu`, which
wants `XLA_FLAGS=--xla_gpu_deterministic_ops=true` too."""

import re
from types import SimpleNamespace

import jax
import pytest

from lrjax.devices.accelerators import Memory
from tests.gpu import table, trained

CARD = pytest.mark.skipif(
    jax.default_backend() == "cpu", reason="no GPU in this process: JAX_PLATFORMS=cuda,cpu takes one"
)


@pytest.mark.gpu
@CARD
@pytest.mark.parametrize("check", table.CHECKS)
def test_a_card_is_right(check, capsys):
    assert table.main([f"--checks={check}"]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_the_same_checks_pass_on_a_cpu(capsys):
    assert table.main(["--checks=memory,spectra,transforms"]) == 0, capsys.readouterr().out


def test_a_wrong_number_is_told_and_fails(monkeypatch, capsys):
    monkeypatch.setitem(
        table.CHECKS, "transforms", lambda: iter([("off", 1e-2, 1e-3), ("not a number", float("nan"), 1.0)])
    )
    assert table.main(["--checks=transforms"]) == 1
    assert capsys.readouterr().out.count("WRONG") == 2


def test_a_check_that_a_device_cannot_make_has_its_reason_and_does_not_fail(capsys):
    assert table.main(["--checks=memory"]) == 0
    assert re.search(r"memory +held, .*not run: a cpu tells no peak of its memory", capsys.readouterr().out)


class Card:
    """Stands for a device that tells its memory."""

    platform, device_kind = "gpu", "card"

    def __init__(self, *stats):
        self.stats = iter(stats)

    def memory_stats(self):
        return next(self.stats)


@pytest.mark.parametrize(
    ("used", "ending"),
    [(100, "ok"), (10**12, "WRONG"), (None, "not run: this process has held more before; --checks=memory alone tells")],
)
def test_memory_beyond_what_the_dry_run_tells_fails(used, ending, monkeypatch, capsys):
    before = {"peak_bytes_in_use": 5000, "bytes_in_use": 4950}
    card = Card(before, {"peak_bytes_in_use": 5000 if used is None else 4950 + used, "bytes_in_use": 4950})
    block = SimpleNamespace(static=0, lanes=[], start=lambda: SimpleNamespace(state=0))
    monkeypatch.setattr(trained, "images", lambda size: block)
    monkeypatch.setattr(trained, "compiled_memory", lambda group: Memory("card", 1000))
    monkeypatch.setattr(trained, "advanced", lambda *_: None)
    monkeypatch.setattr(trained.jax, "devices", lambda *_: [card])
    table.main(["--checks=memory"])
    assert capsys.readouterr().out.splitlines()[1].endswith(ending)


def test_an_unknown_check_is_refused_with_the_ones_there_are(capsys):
    with pytest.raises(SystemExit):
        table.main(["--checks=speed"])
    assert "there is no check 'speed'; --checks takes memory, spectra" in capsys.readouterr().err
