"""`lrjax list` of a file of one's own, and what a file that is none gets."""

import pytest

from lrjax import commands

MINE = '''"""My own paper."""


def one(scale):
    """Larger steps are better."""


def two(scale):
    pass


DEFAULT, EXPERIMENTS = "one", {"one": one, "two": two}
'''


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["mine.py"], ["My own paper", "  --config=mine.py:one", "      Larger steps are better.", "  --config=mine.py:two"]),
        (["./mine.py:two"], ["My own paper", "  --config=./mine.py:two"]),
        (["mine.py", "LARGER"], ["My own paper", "  --config=mine.py:one", "      Larger steps are better."]),
        (["larger", "mine.py"], ["My own paper", "  --config=mine.py:one", "      Larger steps are better."]),
        (["mine.py,scale=smoke", "two"], ["My own paper", "  --config=mine.py:two"]),
    ],
)  # fmt: skip
def test_list_shows_the_experiments_of_a_file_of_ones_own(words, shown, capsys):
    assert commands.main(["list", *words]) == 0
    assert capsys.readouterr().out.splitlines() == shown


def test_a_file_of_the_package_is_listed_alone(capsys):
    assert commands.main(["list", "configs/exp_lr.py"]) == 0
    out = capsys.readouterr().out
    assert "configs/exp_lr.py:E1" in out
    assert "benign_osc" not in out


def test_a_file_without_a_default_is_listed_and_asks_for_an_experiment_in_a_run(tmp_path, capsys):
    (tmp_path / "open.py").write_text(MINE.replace('DEFAULT, EXPERIMENTS = "one", ', "EXPERIMENTS = "))
    assert commands.main(["list", "open.py"]) == 0
    assert commands.main(["run", "open.py"]) == 1
    err = capsys.readouterr().err
    assert err == "error: open.py has no DEFAULT; write open.py:EXPERIMENT; valid names: one, two\n"


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        ("x = (", ["it.py"], "error: it.py:1: SyntaxError: '(' was never closed"),
        ("import gone_away", ["it.py"], "error: it.py:1, in <module>: ModuleNotFoundError: No module named 'gone_away'"),
        ("EXPERIMENTS = {}", ["it.py"], "error: it.py has no experiment; write one into its EXPERIMENTS"),
        ("x = 1", ["it.py"], "error: it.py defines no EXPERIMENTS"),
        (MINE, ["mien.py"], "error: there is no config file 'mien.py'; did you mean 'mine.py'?"),
        (MINE, ["mine.py:twoo"], "error: unknown experiment 'twoo' in mine.py; did you mean 'two'?"),
        (MINE, ["mine.py", "zebra"], "error: no experiment mentions 'zebra'; lrjax list mine.py shows all"),
        (MINE, ["two", "words"], "error: give one file and one word at most, not two words"),
        (MINE, ["mine.py", "--al"], "error: unrecognized arguments: --al"),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_gets_one_sentence_with_its_line(text, words, sentence, tmp_path, capsys):
    (tmp_path / "it.py").write_text(text)
    assert commands.main(["list", *words]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(sentence)
    assert (out, err.count("\n")) == ("", 1)
