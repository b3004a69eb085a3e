"""Where a run comes from, as status.json and the page say it: when, on which devices, from which sources, by which command."""

import json
import subprocess
from types import SimpleNamespace

import jax
import pytest

import lrjax
from lrjax.devices.parallel import described
from lrjax.experiment.config.load import load_config
from lrjax.experiment.rundir import workdirs
from lrjax.report import write_report
from lrjax.report.about import facts
from tests.sketches import sketches

E1 = "configs/benign_osc.py:E1,scale=smoke"


@pytest.fixture(scope="module", autouse=True)
def sketched():
    with sketches():
        yield


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A commit of a package with one file, in which this program takes itself to be."""
    source = tmp_path / "lrjax" / "experiment" / "rundir" / "workdirs.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(workdirs, "__file__", str(source))
    return source


def test_sources_as_committed_carry_no_mark(checkout):
    state = workdirs.code_state()
    assert len(state["commit"]) == 40
    assert state["changed"] is False
    assert "changed" not in facts(SimpleNamespace(status=state, config={}))["commit"]


@pytest.mark.parametrize("untracked", [False, True])
def test_sources_that_differ_from_the_commit_carry_a_mark(checkout, untracked):
    (checkout.with_name("new.py") if untracked else checkout).write_text("x = 2\n")
    state = workdirs.code_state()
    assert state["changed"] is True
    assert facts(SimpleNamespace(status=state, config={}))["commit"] == f"{state['commit'][:12]}, with changed sources"


def test_a_file_beside_the_sources_is_no_change_of_them(checkout):
    (checkout.parents[3] / "notes.txt").write_text("mine\n")
    assert workdirs.code_state()["changed"] is False


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    lrjax.run(load_config(E1, {"steps": 300}), folder)
    return folder


def status_of(folder):
    return json.loads((folder / "status.json").read_text())


def rewritten(folder, **changes):
    status = {key: value for key, value in (status_of(folder) | changes).items() if value is not ...}
    (folder / "status.json").write_text(json.dumps(status))


def test_a_run_knows_its_date_and_its_devices_and_the_page_shows_them(run):
    status = status_of(run)
    assert status["started"].endswith("+00:00")
    assert status["device"].startswith("CPU: ")
    rewritten(run, started="2026-02-03T04:05:06+00:00", device="2 x NVIDIA H200")
    write_report(run)
    page = (run / "report.html").read_text()
    assert "date 2026-02-03 04:05 UTC" in page
    assert "device 2 x NVIDIA H200" in page


def test_a_run_directory_without_date_device_and_mark_has_a_page(run):
    rewritten(run, started=..., device=..., changed=...)
    write_report(run)
    page = (run / "report.html").read_text()
    assert "· date" not in page
    assert "· device" not in page


def test_a_run_that_is_gone_on_with_keeps_its_date_and_names_both_devices(run):
    rewritten(run, started="2026-02-03T04:05:06+00:00", device="1 x NVIDIA H100", state="preempted")
    lrjax.run(load_config(E1, {"steps": 300}), run)
    assert status_of(run)["started"] == "2026-02-03T04:05:06+00:00"
    assert status_of(run)["device"].startswith("1 x NVIDIA H100, then CPU: ")
    rewritten(run, started=..., state="preempted")
    lrjax.run(load_config(E1, {"steps": 300}), run)
    assert "started" not in status_of(run)  # an earlier version began it: nobody knows when
    assert status_of(run)["device"].count("CPU: ") == 1


def test_devices_that_simulate_several_on_a_cpu_are_one_cpu():
    cpu = SimpleNamespace(platform="cpu", device_kind="cpu", process_index=0)
    assert described([cpu, cpu]) == described(jax.devices()[:1])
    tpu = SimpleNamespace(platform="tpu", device_kind="TPU v5e", process_index=1)
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200", process_index=0)
    assert described([gpu, tpu]) == "1 x NVIDIA H200, 1 x TPU v5e (2 processes)"


def test_a_run_by_lrjax_run_says_how_to_make_it_again(tmp_path):
    lrjax.run(load_config("configs/benign_osc.py:E1,scale=smoke", {"steps": 300}), tmp_path / "run")
    write_report(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "lrjax.load_config(&#39;configs/benign_osc.py:E1,scale=smoke&#39;, {&#39;steps&#39;: 300})" in page


def test_changed_sources_do_not_stand_under_a_clean_commit(run):
    rewritten(run, commit="abc1234", changed=True)
    write_report(run)
    assert "abc1234, with changed sources" in (run / "report.html").read_text()
