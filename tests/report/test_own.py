"""An experiment of one's own has a page like any other: with no paper, with one that stands outside, from a program."""

import html
import json
import re
import subprocess
import sys

import pytest

import lrjax
from lrjax import data, papers
from lrjax.experiment.loop.probe import PROBES
from lrjax.experiment.step import losses, schedules
from lrjax.main import main
from lrjax.report import __main__, write_report
from lrjax.report.collection import write_collection
from tests.runs import REPOSITORY, environment, said

MINE = '''"""Mine."""

import jax
import jax.numpy as jnp
import numpy as np

import lrjax
from lrjax import data
from lrjax.experiment.loop.probe import PROBES, without_memory
from lrjax.experiment.step import losses, schedules


def points(config):
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    split = {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}
    return data.Dataset(split, {"test": split}, 2)


def weights(static, engine, mesh):
    def measure(state, hparams, data):
        return {"norm": sum(jnp.sum(w**2, range(1, w.ndim)) for w in jax.tree.leaves(state.params))}

    return without_memory(measure)


def a(scale):
    config = lrjax.load_config("configs/break_even.py:E7_mlp,scale=smoke")
    with config.unlocked(), config.ignore_type():
        config.paper, config.arms, config.loss = "", type(config)(), "brier"
        config.data, config.probes = type(config)({"name": "points"}), type(config)({"weights": 50})
        config.schedule.name = "restarts"
        config.sweep = type(config)({"optimizer": {"learning_rate": (0.3, 0.9)}, "seed": (0, 1)})
        config.update(batch_size=16, steps=100, log_every=50, checkpoint_every=100)
    return config


data.DATASETS["points"] = data.Source(points, points)
schedules.SCHEDULES["restarts"] = lambda settings, peak, steps: lambda t: peak * (0.5 + 0.5 * jnp.cos(t % 50 / 16))
losses.LOSSES["brier"] = lambda output, y: jnp.sum((jax.nn.softmax(output) - jax.nn.one_hot(y, 2)) ** 2, -1)
PROBES["weights"] = weights
DEFAULT, EXPERIMENTS = "A", {"A": a}
'''
OUTSIDE = """import sys

from lrjax import papers
from lrjax.papers.claim import Claim, Finding
from mine import EXPERIMENTS, a

claim = Claim("falls", "outside", ("B",), "It falls.", "ours", "", lambda run: Finding("supported", "1 -> 0"))
CLAIMS, NOTE = [claim], ""
before, figures = (lambda groups: ""), (lambda run: [])
papers.PAPERS["outside"] = sys.modules[__name__]


def b(scale):
    config = a(scale)
    config.paper = "outside"
    return config


DEFAULT, EXPERIMENTS = "B", {"B": b}
"""
SHOWN = ["step/loss", "step/accuracy", "step/learning_rate", "weights/norm"]
REGISTRIES = (schedules.SCHEDULES, losses.LOSSES, data.DATASETS, PROBES, papers.PAPERS)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    before = [dict(registry) for registry in REGISTRIES]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    yield tmp_path / "mine.py"
    for registry, content in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(content)


def page_of(folder):
    return html.unescape((folder / "report.html").read_text())


def code_of(page):
    return re.search(r"<code>(.*?)</code>", page[page.index("<h2>Reproduce") :], re.S)[1]


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_an_experiment_without_a_paper_has_curves_lanes_config_and_command_and_no_claims(own, capsys):
    assert main(["--plain_process", "--config=mine.py", "--workdir=run"]) == 0
    page = page_of(own.parent / "run")
    assert "<h1>mine: A</h1>" in page
    assert headings(page) == ["Curves", "Lanes", "Diverged lanes", "Reproduce", "Versions", "Config"]
    assert [chart["key"] for chart in charts(page)] == SHOWN
    assert code_of(page) == "python -m lrjax.main --config=mine.py"
    assert "Benign Oscillation" not in page
    assert "learning_rate=0.3, seed=1" in page


def charts(page):
    return json.loads(page[page.index('id="curves">') + 12 :].split("</script>")[0])["charts"]


def test_an_experiment_that_began_from_a_paper_s_config_is_not_shown_as_the_paper_s(own):
    config = lrjax.load_config("mine.py")
    config.paper = "benign_osc"
    lrjax.run(config, "run", command="python -m lrjax.main --config=mine.py")
    assert write_report("run") == []
    page = page_of(own.parent / "run")
    assert "<h1>mine: A</h1>" in page
    assert "arXiv" not in page
    assert "What is reconstructed" not in page


def test_a_run_by_a_program_says_so_and_the_code_on_its_page_makes_it_again(own, monkeypatch):
    lrjax.run(lrjax.load_config("mine.py"), "run")
    write_report("run")
    page = page_of(own.parent / "run")
    assert "A program made this run, by lrjax.run, not a command. Its config is kept in config.json" in page
    monkeypatch.chdir(own.parent / "run")
    exec(code_of(page), {})
    first, again = (
        json.loads((own.parent / "run" / name).read_text()) for name in ("status.json", "again/status.json")
    )
    assert again["state"] == "done"
    assert again["config"] == first["config"]


def test_a_sweep_of_one_s_own_experiment_has_metrics_and_curves(own):
    for rate in (0.3, 0.9):
        config = lrjax.load_config("mine.py", {"sweep.optimizer.learning_rate": (rate,)})
        lrjax.run(config, f"runs/rate-{rate}", command="python -m lrjax.main --config=mine.py")
    page = page_of(write_collection(own.parent / "runs").parent)
    assert "learning_rate" in page
    assert [chart["key"] for chart in charts(page)] == SHOWN
    assert re.search(r"rate-0.9</td><td>.*?</td><td class=number.*?>2</td><td>[\d.e-]+ ± ", page)


def test_a_paper_that_stands_outside_is_known_by_the_config_file_that_registers_it(own):
    (own.parent / "outside.py").write_text(OUTSIDE)

    def call(*words):
        place = f"{own.parent}:{REPOSITORY}"
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=own.parent,
            env=environment() | {"PYTHONPATH": place},
            capture_output=True,
        )

    assert call("lrjax.main", "--plain_process", "--config=outside.py", "--workdir=run").returncode == 0
    claims = own.parent / "run" / "claims.json"
    judged = claims.read_bytes()
    assert json.loads(judged)[0]["verdict"] == "supported"
    # A process that does not know the paper keeps what was judged, and says so.
    done = call("lrjax.report", "run")
    assert done.returncode == 0, done.stderr
    assert "No paper 'outside' is registered here" in done.stderr.decode()
    assert claims.read_bytes() == judged
    assert "It falls." in page_of(own.parent / "run")
    claims.unlink()
    assert call("lrjax.report", "run", "--config=outside.py").returncode == 0
    assert json.loads(claims.read_bytes()) == json.loads(judged)


def test_a_paper_in_no_registry_is_no_error_and_its_page_names_it(own, capsys):
    config = lrjax.load_config("mine.py")
    config.paper = "nowhere"
    lrjax.run(config, "run")
    assert __main__.main(["run"]) == 0
    assert "note: No paper 'nowhere' is registered here, so no claim was judged" in capsys.readouterr().err
    assert "<h1>nowhere: A</h1>" in page_of(own.parent / "run")
    assert "there is no config file 'x.py'" in refused(capsys, "run", "--config=x.py")
    assert "nowhere" in said(capsys, "--plain_process", "--from=run")


@pytest.mark.parametrize("key", ["paper", "experiment"])
def test_a_damaged_name_is_not_taken_for_an_experiment_of_one_s_own(key, own, capsys):
    lrjax.run(lrjax.load_config("configs/benign_osc.py:E1,scale=smoke", {"steps": 300}), "run")
    path = own.parent / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "x"}))
    err = refused(capsys, "run")
    assert "config.json is damaged" in err
    assert "is not what ran" in err


def refused(capsys, *arguments):
    assert __main__.main(list(arguments)) == 1
    return capsys.readouterr().err
