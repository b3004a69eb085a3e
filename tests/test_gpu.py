"""`python -m tests.gpu` on the device of this process: on a card with `JAX_PLATFORMS=cuda,cpu pytest -m gpu`."""

import jax
import pytest

from tests import gpu

CARD = pytest.mark.skipif(
    jax.default_backend() == "cpu", reason="no GPU in this process: JAX_PLATFORMS=cuda,cpu takes one"
)


@pytest.mark.gpu
@CARD
@pytest.mark.parametrize("check", gpu.CHECKS)
def test_a_card_is_right(check, capsys):
    assert gpu.main([f"--checks={check}"]) == 0, capsys.readouterr().out


def test_the_same_checks_pass_on_a_cpu(capsys):
    assert gpu.main(["--checks=spectra,transforms"]) == 0, capsys.readouterr().out


def test_a_wrong_number_is_told_and_fails(monkeypatch, capsys):
    monkeypatch.setitem(
        gpu.CHECKS, "transforms", lambda: iter([("off", 1e-2, 1e-3), ("not a number", float("nan"), 1.0)])
    )
    assert gpu.main(["--checks=transforms"]) == 1
    assert capsys.readouterr().out.count("WRONG") == 2
