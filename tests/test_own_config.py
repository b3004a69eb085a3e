"""A config file of one's own: it is listed, and an error in it is shown with file and line."""

import pytest

from lrjax.main import main
from tests.runs import CLEAR, said

MINE = '''"""My own experiments.

experiment | claim | scales | run time
B | it goes down | smoke | 3 s
"""

import lrjax
from lrjax.experiment.step import schedules

DEFAULT = "A"


def mine(settings, peak, steps):
    def schedule(t):
        return peak / settings["nothing"]

    return schedule


schedules.SCHEDULES["mine"] = mine


def a(scale):
    """What I want to know."""
    return lrjax.load_config("configs/benign_osc.py:E1,scale=smoke", {"schedule.name": "mine"})


EXPERIMENTS = {"A": a, "B": lambda scale: 1 / 0, "C": lambda scale: lrjax.load_config("x.py")}
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    from lrjax.experiment.step import schedules

    monkeypatch.setattr(schedules, "SCHEDULES", dict(schedules.SCHEDULES))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def line_of(text):
    return MINE[: MINE.index(text)].count("\n") + 1


def test_list_shows_the_experiments_of_ones_own_file(own, capsys):
    assert main(["--list", "--config=mine.py"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("My own experiments\n")
    assert "--config=mine.py:B   [smoke; small: 3 s]\n      it goes down" in out
    assert "--config=mine.py:A\n      What I want to know." in out
    assert "benign_osc" not in out


def test_list_of_a_file_of_the_package_shows_that_one_and_of_none_says_so(capsys):
    assert main(["--list", "--config=configs/exp_lr.py"]) == 0
    out = capsys.readouterr().out
    assert "exp_lr.py:twins" in out
    assert "benign_osc" not in out
    assert "there is no config file 'nowhere.py'" in said(capsys, "--list", "--config=nowhere.py")


def test_an_error_in_ones_own_schedule_has_file_and_line(own, capsys):
    err = said(capsys, "--plain_process", "--config=mine.py", "--workdir=run")
    assert err.startswith(f"error: mine.py:{line_of('return peak')}, in schedule: KeyError: ")
    assert "'nothing'" in err


def test_an_error_in_ones_own_experiment_has_file_and_line(own, capsys):
    err = said(capsys, "--config=mine.py:B")
    assert err == f"error: mine.py:{line_of('1 / 0')}, in <lambda>: ZeroDivisionError: division by zero\n"
    assert said(capsys, "--config=mine.py:C").startswith("error: there is no config file 'x.py'")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("def (x):\n", 1, "SyntaxError"),
        ("x = 1\nimport no_such_module\n", 2, "ModuleNotFoundError"),
        ("\nx\n", 2, "NameError"),
    ],
)
def test_a_file_that_does_not_load_has_file_and_line(text, line, reason, own, capsys):
    (own.parent / "bad.py").write_text(text)
    err = said(capsys, "--config=bad.py")
    assert err.startswith(f"error: bad.py:{line}")
    assert reason in err


def test_an_error_of_lrjax_itself_names_no_line_of_the_user(capsys, monkeypatch):
    from lrjax.experiment.config import load

    monkeypatch.setattr(load, "SCALES", None)  # so that lrjax itself breaks
    assert said(capsys, f"--config={CLEAR}").endswith("; run again with --debug to see where\n")
