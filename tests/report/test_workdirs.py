"""Whose a run directory is: the keys that differ, `--fresh` and other experiments, and locks that cover the report."""

import contextvars
import json
import os

import pytest

from lrjax.errors import LrjaxError
from lrjax.experiment.config.load import load_config
from lrjax.experiment.rundir import workdirs
from lrjax.main import main
from lrjax.report import session, write_report
from tests.runs import CLEAR, RUN, TINY, configs_of, said

CONFIG = dict(configs_of(TINY))


def elsewhere(function, *arguments):
    """As another process would: without what this thread holds. Locks of one file opened twice exclude each other too."""
    return contextvars.Context().run(function, *arguments)


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in workdirs.LOCKS)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def begun(tmp_path):
    """A run directory that was made and not gone on with."""
    with workdirs.opened(tmp_path / "run", load_config(CLEAR, CONFIG)):
        (tmp_path / "run" / "metrics.jsonl").write_text("")
    return tmp_path / "run"


def test_a_refused_workdir_names_the_keys_that_differ_with_both_values(begun, capsys):
    err = said(capsys, *RUN, "--config.data.n=32", "--config.label_noise=0.1", f"--workdir={begun}")
    assert "they differ in data.n (64 there, 32 here), label_noise (null there, 0.1 here);" in err
    many = [f"--config.data.{key}=7" for key in ("n", "dim", "num_test", "n_weak")] + ["--config.batch_size=2"]
    assert "batch_size (1 there, 2 here), data.dim (40 there, 7 here)," in said(
        capsys, *RUN, *many, f"--workdir={begun}"
    )
    assert "1 key more" in said(capsys, *RUN, *many, f"--workdir={begun}")


def test_where_the_data_lies_is_no_difference(begun):
    assert workdirs.inspect(begun, load_config(CLEAR, CONFIG | {"data_dir": "/elsewhere"})) is None


@pytest.mark.parametrize("spec", ["configs/benign_osc.py:E1,scale=smoke", "configs/exp_lr.py:E7,scale=smoke"])
def test_fresh_does_not_remove_a_run_of_another_experiment(spec, begun, capsys):
    before = contents(begun)
    err = said(capsys, "--plain_process", f"--config={spec}", "--fresh", f"--workdir={begun}")
    assert "holds a run of another experiment (benign_osc:CLEAR,scale=smoke), which --fresh does not remove" in err
    assert contents(begun) == before
    assert "--fresh" not in said(capsys, "--plain_process", f"--config={spec}", f"--workdir={begun}")


def test_fresh_does_not_remove_a_run_of_another_scale(begun):
    with pytest.raises(LrjaxError, match="another experiment"):
        workdirs.start_over(begun, load_config("configs/benign_osc.py:CLEAR,scale=paper"))


def test_fresh_replaces_a_run_of_the_same_experiment_with_other_settings(begun):
    other = load_config(CLEAR, CONFIG | {"data.n": 32})
    with workdirs.held(begun, other, fresh=True), workdirs.opened(begun, other):
        assert json.loads((begun / "config.json").read_text())["data"]["n"] == 32
    assert not (begun / "metrics.jsonl").exists()


def test_fresh_is_refused_while_a_report_is_written_and_removes_nothing(begun, capsys):
    before = contents(begun)
    with workdirs.undisturbed(begun):
        assert "another process writes the report of" in said(capsys, *RUN, "--fresh", f"--workdir={begun}")
    assert contents(begun) == before


def test_no_other_process_starts_over_while_a_report_is_written(begun):
    with workdirs.undisturbed(begun) as alone:
        assert alone
        with pytest.raises(LrjaxError, match="another process"):
            workdirs.start_over(begun)
    assert (begun / "config.json").exists()


def test_a_report_is_written_while_the_run_goes_on_but_not_beside_another_report(begun):
    second = workdirs.undisturbed(begun, wait_s=0.1)
    with (
        workdirs.opened(begun, load_config(CLEAR, CONFIG)),
        workdirs.undisturbed(begun),
        pytest.raises(LrjaxError) as late,
    ):
        second.__enter__()
    assert "another process writes the report" in str(late.value)


def test_a_report_knows_whether_another_process_runs_the_directory(begun):
    with workdirs.undisturbed(begun) as free:
        assert free
    with workdirs.opened(begun, load_config(CLEAR, CONFIG)), workdirs.undisturbed(begun) as free:
        assert not free
    with workdirs.held(begun, load_config(CLEAR, CONFIG)), workdirs.undisturbed(begun) as free:
        assert free  # by this one itself


def test_from_the_first_step_to_the_end_of_the_report_no_other_process_gets_the_directory(tmp_path, monkeypatch):
    workdir, config = tmp_path / "run", load_config(CLEAR, CONFIG)
    seen = []

    def stopped(*_, **__):
        for attempt in (lambda: workdirs.start_over(workdir), lambda: workdirs.opened(workdir, config).__enter__()):
            with pytest.raises(LrjaxError, match="another process is running in"):
                elsewhere(attempt)
        seen.append(workdir)
        return []

    def ran(given, place, **_):
        with workdirs.opened(place, given):
            stopped()

    monkeypatch.setattr(session, "write_report", stopped)
    monkeypatch.setattr(session, "run", ran)
    assert main([*RUN, f"--workdir={workdir}"]) == 0
    assert len(seen) == 2
    workdirs.start_over(workdir)  # and afterwards it is free again


def test_the_lock_is_no_door_to_another_file(begun, tmp_path, capsys):
    for name in workdirs.LOCKS:
        (begun / name).unlink(missing_ok=True)
        (begun / name).symlink_to(tmp_path / "outside")
        if name == ".lock":
            assert "is a symbolic link" in said(capsys, *RUN, f"--workdir={begun}")
            (begun / name).unlink()
    with pytest.raises(LrjaxError, match="is a symbolic link"):
        write_report(begun)
    assert not (tmp_path / "outside").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root writes anywhere")
def test_a_directory_that_cannot_be_written_to_is_not_locked_for_a_report(begun):
    begun.chmod(0o555)
    try:
        with workdirs.undisturbed(begun):
            pass
    finally:
        begun.chmod(0o755)
