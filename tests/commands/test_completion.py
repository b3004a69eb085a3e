"""What a shell completes: typed into bash and zsh themselves, at a terminal."""

import functools
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from lrjax.commands import COMMANDS, completion

script_of = functools.cache(completion.script)
SHELLS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}
# In place of the command: what it would be given.
SHOWS = "lrjax() { printf '<%s>' \"$@\"; printf '\\nend%s\\n' ing; }"


def completed(shell, typed, folder):
    """The words of a command after the tabulator key at its end."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (folder / "script").write_text(script_of(shell))
    (folder / "here").mkdir(exist_ok=True)
    terminal, other = pty.openpty()  # not pty.fork, which JAX warns of
    process = subprocess.Popen(
        [shell, *SHELLS[shell]],
        stdin=other, stdout=other, stderr=other, start_new_session=True, cwd=folder / "here",
        env=os.environ | {"TERM": "dumb", "ZDOTDIR": str(folder)},
    )  # fmt: skip
    os.close(other)
    said, end = "", time.monotonic() + 30
    try:
        os.write(terminal, f"source ../script; {SHOWS}\n{typed}\t\n".encode())
        while "\nending" not in said and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 1 << 16).decode()
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    found = re.search(r"((?:<[^>]*>)+)\r*\nending", said)
    return re.findall("<([^>]*)>", found[1]) if found else said


TYPED = {
    "re": ["report"],
    "run --dr": ["run", "--dry_run"],
    "run --work": ["run", "--workdir="],
    "run --dry_run=s": ["run", "--dry_run=shapes"],
    "run configs/ben": ["run", "configs/benign_osc.py"],
    "run configs/benign_osc.py:ab": ["run", "configs/benign_osc.py:ablate"],
    "run --config=configs/exp": ["run", "--config=configs/exp_lr.py"],
    "sweep --config=configs/benign_osc.py:ab": ["sweep", "--config=configs/benign_osc.py:ablate"],
    "sweep --target=sk": ["sweep", "--target=skypilot"],
    "sweep --extra=t": ["sweep", "--extra=tpu"],
    "export --format=p": ["export", "--format=parquet"],
    "list mi": ["list", "mine.py"],
    "list configs/lr": ["list", "configs/lr_decay.py"],
    "report ru": ["report", "runs/"],
    "run --from=ru": ["run", "--from=runs/"],
    "run my\\ o": ["run", "my own.py"],
    "data pr": ["data", "prepare"],
    "completion z": ["completion", "zsh"],
    "run --fr": ["run", "--fr"],  # --fresh or --from=
    "sweep --parti": ["sweep", "--parti"],  # --partition is of sbatch, not of lrjax
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("typed", "words"), TYPED.items(), ids=TYPED)
def test_commands_flags_values_configs_and_files_are_completed(shell, typed, words, tmp_path):
    here = tmp_path / "here"
    (here / "runs").mkdir(parents=True)
    for name in ("mine.py", "my own.py"):
        (here / name).touch()
    found = completed(shell, f"lrjax {typed}", tmp_path)
    assert [word.rstrip("/") for word in found] == [word.rstrip("/") for word in words]  # zsh takes the slash back


@pytest.mark.parametrize("shell", SHELLS)
def test_configs_that_are_files_too_are_completed_once(shell, tmp_path):
    (tmp_path / "here" / "configs").mkdir(parents=True)
    for name in ("benign_osc.py", "mine.py"):
        (tmp_path / "here" / "configs" / name).touch()
    assert completed(shell, "lrjax run --config=configs/be", tmp_path) == ["run", "--config=configs/benign_osc.py"]
    assert completed(shell, "lrjax run configs/mi", tmp_path) == ["run", "configs/mine.py"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_a_commands_help_is_completed(command):
    flags = completion.flags_of(command)
    assert "--help" in flags
    assert ("--debug" in flags) == (command not in ("completion",))
    assert all(re.fullmatch(r"--[a-z_]+=?", flag) for flag in flags)
