"""The second process of tests/conftest.py, run on small test suites with the real configuration."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]

SUITE = """
import os
import jax, jax.numpy as jnp, pytest

@pytest.fixture(scope="module")
def shared():
    return os.getpid()

@pytest.fixture
def broken():
    raise ValueError("setup went wrong")

@pytest.mark.x64
def test_is_float64(shared):
    assert jnp.zeros(()).dtype == "float64"

def test_is_float32(shared):
    assert jnp.zeros(()).dtype == "float32"

@pytest.mark.x64
@pytest.mark.parametrize("n", [1, 2, 3])
def test_small(n):
    print("printed by", n)
    assert n < 3, "three is too many"

@pytest.mark.x64
def test_skipped():
    pytest.skip("not today")

@pytest.mark.x64
@pytest.mark.xfail(reason="known")
def test_known_failure():
    assert False

@pytest.mark.x64
def test_setup_fails(broken):
    pass

@pytest.mark.x64
@pytest.mark.slow
def test_long_and_float64():
    assert jnp.zeros(()).dtype == "float64"

@pytest.mark.slow
def test_long():
    pass

@pytest.mark.x64
def test_no_rank_promotion():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)

def test_is_in_the_middle(shared):
    assert shared == os.getpid()
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs pytest on a suite that stands under the project's own conftest.py and pyproject.toml."""
    monkeypatch.delenv("JAX_ENABLE_X64", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.path.joinpath("tests").mkdir()
    for name in ("pyproject.toml", "tests/conftest.py"):
        pytester.path.joinpath(name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")

    def run_suite(suite, *options):
        pytester.path.joinpath("tests/test_suite.py").write_text(suite, encoding="utf-8")
        return pytester.runpytest_subprocess("-p", "xdist", "-n0", "-p", "no:cacheprovider", *options)

    return run_suite


def test_each_x64_test_reports_its_own_outcome_and_a_failure_fails_the_run(run):
    result = run(SUITE, "-v")
    result.assert_outcomes(passed=6, failed=1, skipped=1, xfailed=1, errors=1, deselected=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*::test_is_float64 PASSED*",
            "*::test_small[[]3[]] FAILED*",
            "*::test_skipped SKIPPED (not today)*",
            "*ValueError: setup went wrong",
            "*AssertionError: three is too many",
            "*printed by 3*",
        ]
    )


@pytest.mark.slow
def test_selections_reach_the_x64_process(run):
    run(SUITE, "-m", "slow").assert_outcomes(passed=2, deselected=10)
    result = run(SUITE, "-k", "(small and not 3) or long")
    result.assert_outcomes(passed=2, deselected=10)
    assert result.ret == pytest.ExitCode.OK


def test_first_failure_stops_the_x64_process(run):
    suite = """
import pathlib, pytest, time
pytestmark = pytest.mark.x64
def test_fails(): assert False
def test_waits(): time.sleep(0.2)
def test_is_not_reached():
    time.sleep(60)
    pathlib.Path("reached").touch()
"""
    result = run(suite, "-x")
    result.assert_outcomes(failed=1)
    assert result.duration < 30


@pytest.mark.slow
def test_crash_of_the_x64_process_fails_the_tests_that_it_took_along(run):
    suite = """
import os, pytest
pytestmark = pytest.mark.x64
def test_before(): pass
def test_crash():
    os.write(1, b"last words")
    os._exit(7)
def test_after(): pass
"""
    result = run(suite, "-s")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*ended with status 7 before this test did*"])


def test_one_process_where_float64_is_on_already(run, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    suite = """
import os, pytest
pids = set()
@pytest.mark.x64
def test_marked(): pids.add(os.getpid())
def test_plain(): assert pids == {os.getpid()}
"""
    run(suite).assert_outcomes(passed=2)
