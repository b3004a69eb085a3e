"""A schedule, a probe, a model, a data set and a paper from outside the package, by registration and by entry point."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lrjax
from lrjax import data, models, papers
from lrjax.errors import LrjaxError
from lrjax.experiment.config import plugins
from lrjax.experiment.loop.probe import PROBES
from lrjax.experiment.step import schedules
from lrjax.report import write_report
from tests.runs import REPOSITORY, environment

SOURCE = Path(__file__).with_name("sawtooth.py")
REGISTRIES = (schedules.SCHEDULES, data.DATASETS, models.MODELS, PROBES, papers.PAPERS)


@pytest.fixture(autouse=True)
def registries_as_before():
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, content in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(content)
    plugins.load.cache_clear()


def test_a_config_file_elsewhere_brings_all_five_and_is_run_measured_and_judged(tmp_path):
    own = tmp_path / "elsewhere" / "sawtooth.py"
    own.parent.mkdir()
    shutil.copy(SOURCE, own)
    result = lrjax.run(lrjax.load_config(str(own)), tmp_path / "run")
    rates = result.arrays[0]["step/learning_rate"]
    np.testing.assert_allclose(rates[:11], [*(0.5 * (1 - np.arange(10) / 10)), 0.5], rtol=1e-6)
    assert result.arrays[0]["weight_norm/value"].shape == (5,)
    losses = result.arrays[0]["step/loss"]
    assert losses[-20:].mean() < 0.8 * losses[:20].mean()
    (entry,) = write_report(tmp_path / "run")
    assert (entry["paper"], entry["id"], entry["verdict"]) == ("sawtooth", "grows", "supported")
    assert "The weights grow." in (tmp_path / "run" / "report.html").read_text()


def installed(folder, target):
    """A package as pip leaves it, with an entry point."""
    info = folder / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lrjax]\nmine = {target}\n")


def test_an_entry_point_registers_without_a_word_in_the_config(tmp_path, monkeypatch):
    installed(tmp_path, "mine_parts")
    (tmp_path / "mine_parts.py").write_text(
        "from lrjax.experiment.step import schedules\n"
        "schedules.SCHEDULES['halved'] = lambda settings, peak, steps: lambda t: peak / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "halved" not in schedules.SCHEDULES
    plugins.load.cache_clear()
    lrjax.load_config("configs/benign_osc.py:CLEAR,scale=smoke", {"schedule.name": "halved"})
    assert "halved" in schedules.SCHEDULES


@pytest.mark.slow
def test_a_report_made_later_by_another_process_knows_the_paper_of_an_installed_package(tmp_path):
    packages = tmp_path / "packages"
    installed(packages, "mine_paper")
    shutil.copy(SOURCE, packages / "mine_paper.py")
    shutil.copy(SOURCE, tmp_path / "experiment.py")
    place = os.pathsep.join([str(packages), str(REPOSITORY)])
    for words in (["lrjax.main", "--config=experiment.py", "--workdir=run"], ["lrjax.report", "run"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment() | {"PYTHONPATH": place}, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "claims.json").read_text())[0]["verdict"] == "supported"


def test_a_plugin_that_does_not_load_is_named(tmp_path, monkeypatch):
    installed(tmp_path, "no_such_module_of_mine")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.load.cache_clear()
    with pytest.raises(LrjaxError, match=r"plugin 'mine' \(no_such_module_of_mine\) does not load"):
        plugins.load()
