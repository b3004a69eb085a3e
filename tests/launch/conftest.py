"""The jobs of a small sweep, and the command line of the launchers over them."""

from pathlib import Path

import pytest

from launch import jobs
from tests.launch.launching import CONFIG, FLAGS
from tests.runs import REPOSITORY


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture(scope="module")
def planned():
    """The jobs of the sweep, planned once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(REPOSITORY)
        return jobs.jobs_of([CONFIG.removeprefix("--config=")], Path("/runs/mine"), {}, {})


@pytest.fixture
def launch(planned, monkeypatch, capsys):
    """Runs the command line with these jobs; gives (status, stdout, stderr)."""

    def run(target, *flags, root="/runs/mine"):
        moved = [
            job._replace(
                workdir=Path(root) / job.name, command=(*job.command[:-1], f"--workdir={Path(root) / job.name}")
            )
            for job in planned
        ]
        monkeypatch.setattr(jobs, "jobs_of", lambda *arguments, **named: moved)
        status = jobs.main([CONFIG, f"--target={target}", f"--workdir={root}", *FLAGS[target], *flags])
        return (status, *capsys.readouterr())

    return run
