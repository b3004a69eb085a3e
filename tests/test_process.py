"""What a process sets once: large pages, and compiled programs on disk."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lrjax
from lrjax.experiment.loop import process
from tests.runs import tiny

REPOSITORY = Path(__file__).resolve().parents[1]
LISTING = [sys.executable, "-m", "lrjax.main", "--config=configs/benign_osc.py:CLEAR,scale=smoke"]


def test_a_setting_of_the_user_is_kept_and_added_to():
    found = process.with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2", "A": "b"}, "always [madvise] never")
    assert found == {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1", "A": "b"}


@pytest.mark.parametrize("offered", ["", "always madvise [never]", "[always] madvise never"])
def test_nothing_is_set_where_the_kernel_has_no_large_pages_on_request(offered):
    assert process.with_huge_pages({}, offered) is None


@pytest.mark.slow
def test_the_program_starts_itself_once_with_large_pages_and_a_flag_leaves_the_process_alone(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    said = {}
    for flag in ("", "--plain_process"):
        command = [*LISTING, f"--workdir={tmp_path / ('plain' if flag else 'own')}", *filter(None, [flag])]
        environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said[flag] = done.stderr
    large = process.HUGE_PAGES.exists() and "[madvise]" in process.HUGE_PAGES.read_text()
    assert ("large pages (glibc.malloc.hugetlb=1)" if large else "pages as the system gives them") in said[""]
    assert f"compiled programs kept in {tmp_path / 'cache' / 'lrjax' / 'compiled'}" in said[""]
    assert "process:" not in said["--plain_process"]


def test_a_home_that_cannot_be_written_to_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert process.keep_compiled_programs() is None


def test_threads_are_limited_before_the_first_device_is_asked_for_and_a_user_s_own_number_is_kept(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    assert process.limit_threads(0) is None
    assert "NPROC" not in os.environ
    assert process.limit_threads(1) == 1
    assert process.limit_threads(3) == 1  # as if the user had set it
    assert "1 thread (NPROC)" in process.settings(None, 1)
    assert "a thread a core" in process.settings(None, None)


def test_the_program_itself_has_the_threads_of_its_config(tmp_path):
    count = "import os, jax; jax.devices(); print(len(os.listdir('/proc/self/task')))"
    code = "import sys; from lrjax.experiment.loop import process; process.limit_threads(int(sys.argv[1])); " + count
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    threads = [
        int(subprocess.check_output([sys.executable, "-c", code, str(n)], cwd=REPOSITORY, env=environment, text=True))
        for n in (1, 6)
    ]
    assert threads[0] < threads[1]


@pytest.mark.slow
def test_a_trace_of_some_steps_is_written_and_changes_no_number(tmp_path):
    plain = lrjax.run(tiny(), tmp_path / "plain")
    traced = lrjax.run(tiny(), tmp_path / "traced", profile=True)
    assert len(list((tmp_path / "traced" / "profile").rglob("*.xplane.pb"))) == 1
    assert not (tmp_path / "plain" / "profile").exists()
    for one, other in zip(plain.arrays, traced.arrays, strict=True):
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def test_a_step_of_one_thread_leaves_each_other_core_a_lane_of_its_own():
    count = "import jax; print(found, jax.local_device_count())"
    code = "import os, sys; os.cpu_count = lambda: 4; from lrjax.experiment.loop import process; "
    code += "found = process.spread_over_cores(int(sys.argv[1]), int(sys.argv[2])); " + count

    def devices(threads, lanes, **own):
        clean = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
        command = [sys.executable, "-c", code, str(threads), str(lanes)]
        return subprocess.check_output(command, cwd=REPOSITORY, env=clean | own, text=True).split()

    assert devices(1, 12) == ["4", "4"]
    assert devices(2, 12) == ["2", "2"]
    assert devices(1, 3) == ["3", "3"]
    assert devices(0, 12) == ["1", "1"]
    assert devices(1, 1) == ["1", "1"]
    assert devices(1, 12, JAX_NUM_CPU_DEVICES="2") == ["1", "2"]
    assert "1 thread (NPROC) on each of 4 CPU devices" in process.settings(None, 1, 4)
