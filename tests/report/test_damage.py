"""Run directories damaged at random, by every command that reads them; and figures of runs in which nothing is positive."""

import random

import numpy as np
import pytest
from matplotlib.figure import Figure

from lrjax.plots.drawing import png
from lrjax.plots.svg import svg
from tests.report import corruption
from tests.report.damage import WAYS, damage


@pytest.mark.slow
def test_30_damaged_run_directories_give_a_report_or_one_sentence(tmp_path):
    assert corruption.faults(30, 1, tmp_path) == []


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_damage_changes_the_file_and_nothing_outside(way, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("mine")
    for name in ("status.json", "metrics.jsonl", "block.npz"):
        path = tmp_path / name
        before = after = b""
        for seed in range(9):  # some of what is drawn is what was there
            if name.endswith(".npz"):
                np.savez(path, step__loss=np.ones((4, 2)))
            else:
                path.write_text('{"lane": 0, "step": 4}\n' * (3 if name.endswith("l") else 1))
            before = path.read_bytes()
            damage(path, way, random.Random(seed), outside)
            plain = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 31
            after = path.read_bytes() if plain else b""
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            if after != before:
                break
        assert after != before
    assert corruption.snapshot(outside).keys() == {"precious.txt"}
    assert (outside / "precious.txt").read_text() == "mine"


def test_a_log_axis_without_a_positive_value_is_drawn():
    fig = Figure(figsize=(3, 2))
    axis = fig.subplots()
    axis.set(xscale="log", yscale="log")
    axis.plot([1, 2], [0.0, 0.0])
    assert png(fig)
    assert svg(fig, "zeros")
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
