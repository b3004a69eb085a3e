"""The benchmarks run: nobody would notice until somebody wants a number."""

import pytest

from tests.benchmarks import cards, speed
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


@pytest.mark.slow
def test_the_parts_for_cards_run_in_small_on_a_cpu(capsys):
    speed.main(["--parts=clear,lanes32", "--repeats=1", "--smoke"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["clear"] * 2 + ["lanes32"] * 3
    assert [row[2] for row in rows if row[0] == "lanes32"] == ["vmap", "map", "2"]


def test_top_pairs_stand_beside_those_of_a_peer(capsys):
    pytest.importorskip("torch", reason="needs the extra peers")
    speed.main(["--parts=top5", "--repeats=1", "--smoke"])
    assert float(capsys.readouterr().out.split()[-1]) > 0


@pytest.mark.slow
def test_without_pytorch_each_part_is_timed_alone_and_the_table_says_so(monkeypatch, capsys):
    monkeypatch.setattr(speed, "PYTORCH", False)
    speed.main(["--models=mlp", "--parts=step,per_example,top5,sweep", "--repeats=1", "--smoke"])
    out, err = capsys.readouterr()
    assert err == f"note: {speed.MISSING}\n"
    rows = out.splitlines()
    assert [row.split()[0] for row in rows] == ["step", "per_example", "top5", "sweep", "sweep"]
    assert not any("ratio" in row for row in rows)


def test_a_cpu_leaves_the_parts_for_cards_out(capsys):
    speed.main(["--parts=clear", "--repeats=1"])
    assert "for a card" in capsys.readouterr().out


def test_throughput_is_flops_a_second_and_a_share_of_the_peak():
    config = speed.config(speed.MODELS["mlp"], str(SHARED), 2)
    told = [cards.throughput(config, 1e-3, word, "NVIDIA H100 80GB HBM3") for word in cards.PRECISIONS]
    shares = [float(text.split()[2]) for text in told]
    assert told[0].startswith(told[1].split(",")[0])
    assert shares[0] > shares[1] > shares[2] > 0
    assert "peak" not in cards.throughput(config, 1e-3, "float32", "cpu")
