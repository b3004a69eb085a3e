"""The command `lrjax`: what its words reach, what they load, and that the wheel has all of it."""

import os
import subprocess
import sys
import tomllib
import zipfile

import pytest

from lrjax import commands
from lrjax import main as program
from lrjax.commands import sweep
from lrjax.experiment.loop import process
from tests.runs import CLEAR, REPOSITORY, environment

LOADED = (
    "import sys; from lrjax.commands import main; status = main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
)


def lrjax(*words, code=LOADED, **variables):
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment() | variables, capture_output=True, text=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("list",), ("list", "E2"), ("completion", "bash")])
def test_what_only_shows_something_loads_no_jax(words):
    out, err = lrjax(*words)
    assert out
    assert not {"jax", "flax", "matplotlib", "tensorflow_datasets"} & set(err.split())


@pytest.mark.parametrize(
    "command", ["run", "spectra", "diagnose", "sweep", "import", "export", "data", "report", "compare"]
)
def test_help_of_a_command_loads_no_jax_and_names_the_command(command):
    code = "import atexit, sys; from lrjax.commands import main; "
    code += "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main([sys.argv[1], '--help'])"
    out, err = lrjax(command, code=code)
    assert out.startswith(f"usage: lrjax {command}")
    assert not {"jax", "flax", "matplotlib"} & set(err.split())


def test_the_overview_fits_a_screen_and_has_every_command(capsys):
    assert commands.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(f"  lrjax {name} ") for line in lines) for name in commands.COMMANDS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rum"], "error: there is no command 'rum'; did you mean 'run'?\n"),
        (
            ["--config=x.py"],
            "error: lrjax takes a command before its flags, not '--config=x.py'; lrjax --help lists the",
        ),
        (["run"], "error: give --config=FILE.py, for example"),
        (["run", "configs/exp_lr.py", "--frehs"], "error: cannot read '--frehs'"),
        (["compare", "one"], "error: give two runs or more"),
        (["list", "zebra"], "error: no experiment mentions 'zebra'"),
        (["import"], "error: give the folder of the results: lrjax import RESULTS"),
        (["import", "no-such"], "error: there is no no-such; give the folder that holds results.json"),
        (["export"], "error: give the directory of a run"),
        (["export", "run", "--fromat=csv"], "error: unrecognized arguments: --fromat=csv"),
        (["report"], "error: give the directory of a run"),
        (["report", "run", "--refrehs=3"], "error: unrecognized arguments: --refrehs=3; --help lists the flags"),
        (["report", "run", "--refresh=often"], "error: argument --refresh: invalid int value: 'often'"),
        (["compare", "a", "b", "--ouput=x"], "error: unrecognized arguments: --ouput=x"),
        (["spectra", "run", "--stpes=3"], "error: unrecognized arguments: --stpes=3"),
        (["sweep", CLEAR, "--traget=print"], "error: cannot read '--traget=print'"),
        (["data", "lits"], "error: write lrjax data list"),
        (["data", "list", "--debgu"], "error: unrecognized arguments: --debgu"),
        (["data", "prepare"], "error: name the data set: lrjax data prepare cifar10"),
        (["data", "prepare", "mnist"], "error: lrjax prepares no 'mnist'"),
        (["completion", "fish"], "error: "),
    ],
)
def test_a_wrong_word_gets_one_sentence(words, sentence, capsys):
    assert commands.main(words) == 1
    out, err = capsys.readouterr()
    assert err.startswith(sentence)
    assert err.count("\n") == 1
    assert not out


def test_run_takes_the_config_as_its_first_word_and_the_flags_of_the_program(monkeypatch):
    told = []
    monkeypatch.setattr(program, "main", lambda arguments, **named: told.append((arguments, named)) or 0)
    assert commands.main(["run", CLEAR, "--config.seed=3"]) == 0
    assert told == [([f"--config={CLEAR}", "--config.seed=3"], {"program": "lrjax run CONFIG", "alone": False})]


def test_the_command_starts_itself_again_with_large_pages_as_the_module_does(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(process, "with_huge_pages", lambda *_: {"A": "b"})
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments[1]))
    for words in (["python", "-m", "lrjax.main"], ["python", "/venv/bin/lrjax", "run"], ["python", "mine.py"]):
        monkeypatch.setattr(sys, "orig_argv", words)
        process.restart_with_huge_pages()
    assert [words[1:] for words in started] == [["-m", "lrjax.main"], ["/venv/bin/lrjax", "run"]]


def test_sweep_reaches_the_launchers_without_their_name(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setitem(sys.modules, "launch", None)  # somebody else's, or none
    assert commands.main(["sweep", CLEAR, "--sweep.batch_size=(1, 2)", "--target=print", "--workdir=x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["python", "-m", "lrjax.main"]] * 2
    assert sweep.launcher().__file__.endswith("jobs.py")


def test_the_project_installs_the_command():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"lrjax": "lrjax.commands:main"}
    assert {"cuda12", "cuda13", "tpu"} <= set(project["optional-dependencies"])


@pytest.mark.slow
def test_the_wheel_alone_lists_and_plans_a_sweep(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, REPOSITORY],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = archive.namelist()
    assert {
        "lrjax/_launch/jobs.py",
        "lrjax/_launch/slurm.sh",
        "lrjax/_launch/jobset.yaml",
        "lrjax/_launch/queues/gpu.txt",
    } <= set(names)
    assert not any(name.startswith("launch/") for name in names)
    away = environment() | {"PYTHONPATH": str(tmp_path / "site")}
    sizes = "--sweep.batch_size=(1, 2)"
    for words in (["list", "E2"], ["sweep", CLEAR, sizes, "--target=slurm", "--dry_run", f"--workdir={tmp_path}/runs"]):
        command = [sys.executable, "-P", "-m", "lrjax", *words]
        done = subprocess.run(command, cwd=tmp_path, env=away, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "benign_osc.py" in done.stdout
