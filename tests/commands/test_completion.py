"""What a shell completes, in bash itself."""

import shutil
import subprocess

import pytest

from lrjax.commands import completion


def completed(*words, cwd=None):
    """What bash offers for the last of some words."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    given = " ".join(f"'{word}'" for word in words)
    code = f"{completion.script('bash')}\nCOMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; _lrjax; "
    code += "printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=cwd)
    assert not done.stderr
    return sorted(filter(None, done.stdout.splitlines()))


def test_commands_flags_and_files_are_completed(tmp_path):
    (tmp_path / "mine.py").touch()
    assert completed("lrjax", "s") == ["spectra", "sweep"]
    assert completed("lrjax", "run", "--dry") == ["--dry_run"]
    assert completed("lrjax", "sweep", "--acc") == ["--accelerators"]
    assert completed("lrjax", "run", "mi", cwd=tmp_path) == ["mine.py"]
    assert completed("lrjax", "data", "pre", cwd=tmp_path) == ["prepare"]


def test_zsh_gets_the_same_script_after_what_makes_it_take_one():
    assert completion.script("zsh").endswith(completion.script("bash"))
    assert "bashcompinit" in completion.script("zsh")
