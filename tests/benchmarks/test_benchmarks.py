"""The benchmarks run: nobody would notice until somebody wants a number."""

import pytest

from tests.benchmarks import speed
from tests.benchmarks.spectra import SHARED

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="no prepared CIFAR-10 in ../shared/tfds"),
]


def test_each_part_prints_a_line_with_its_ratio(capsys):
    pytest.importorskip("torch", reason="needs the extra peers")
    speed.main(["--models=mlp", "--parts=step,hvp,per_example,covariance,evaluation", "--repeats=1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["step", "hvp", "per_example", "covariance", "evaluation"]
    assert all(float(line.split()[-1]) > 0 for line in lines)
