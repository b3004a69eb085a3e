"""Strict JAX settings for all tests, and a process with float64 for those marked x64.

JAX settles its default precision once a process, so tests marked `x64` run in a second pytest with JAX_ENABLE_X64=1.
It is started with the selected x64 tests alone and sends its reports back one by one: each test passes, fails or skips
here under its own id. With JAX_ENABLE_X64=1 in the environment everything runs in one process instead.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# One thread a process: small steps are slower on two, and the other core has the other pytest worker.
os.environ.setdefault("NPROC", "1")
# Tests compile far more than they compute; one level less of LLVM's optimisation halves their time. What users run, the
# main job and the wheel of `.ci/run`, is compiled in full.
# The last two XLA does not know in every version, and it aborts on a flag that it does not know.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    * metadata.version("jaxlib").startswith("0.10."),
)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# Every run compiles its step anew, and tests run the same small configs again and again. One folder a process: a program
# that another process has half written would be read.
_COMPILED = tempfile.TemporaryDirectory(prefix="lrjax-tests-", ignore_cleanup_errors=True)
jax.config.update("jax_compilation_cache_dir", _COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Taken out of the environment, so that no process that a test starts writes to this pipe.
_REPORT_PIPE = os.environ.pop("LRJAX_X64_REPORT_PIPE", None)
ALONE = ("-p", "xdist", "-n0", "-p", "no:cacheprovider")
_OUTCOMES = pytest.StashKey["X64Outcomes"]()


@pytest.fixture
def tfds_dir():
    """The data_dir of the prepared data sets."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "tfds"
    if not folder.is_dir():
        pytest.skip(f"no prepared data sets: {folder} does not exist")
    return folder


@pytest.fixture
def strict_dtype():
    """No implicit dtype promotion: for the tests of our own maths."""
    with jax.numpy_dtype_promotion("strict"):
        yield


class X64Outcomes:
    """The pytest that runs the x64 tests, and the reports that it has sent so far."""

    def __init__(self, config, node_ids):
        self.config = config
        self.reports = {}
        read_end, write_end = os.pipe()
        with contextlib.ExitStack() as files:
            self.pipe = files.enter_context(os.fdopen(read_end, encoding="utf-8"))
            self.output = files.enter_context(tempfile.TemporaryFile())
            # A file, because there may be more ids than a command line holds.
            id_file = files.enter_context(tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8"))
            id_file.write("\n".join(node_ids))
            id_file.flush()
            self.process = subprocess.Popen(
                # The tests are selected already: an empty -m lifts the deselection that the configuration asks for.
                [sys.executable, "-m", "pytest", *ALONE, "-m", "", f"@{id_file.name}"],
                cwd=config.rootpath,
                env=os.environ | {"JAX_ENABLE_X64": "1", "LRJAX_X64_REPORT_PIPE": str(write_end)},
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=subprocess.STDOUT,
                pass_fds=[write_end],
            )
            self.files = files.pop_all()
        os.close(write_end)

    def of(self, item):
        """Waits for the reports on one test: setup, call, teardown. A test without an end has failed."""
        reports = self.reports.setdefault(item.nodeid, [])
        while not reports or reports[-1].when != "teardown":
            line = self.pipe.readline()
            if not line.endswith("\n"):
                return [*reports, self._lost(item)]
            report = self.config.hook.pytest_report_from_serializable(config=self.config, data=json.loads(line))
            if isinstance(report.longrepr, list):  # where a test was skipped, and why: JSON has no tuples
                report.longrepr = tuple(report.longrepr)
            self.reports.setdefault(report.nodeid, []).append(report)
        return reports

    def close(self):
        if self.pipe.readline():  # the outer run was stopped before the last test
            self.process.terminate()
        self.process.wait()
        self.files.close()

    def _lost(self, item):
        status = self.process.wait()
        self.output.seek(0)
        tail = self.output.read().decode(errors="replace")[-4000:]
        text = f"The pytest with JAX_ENABLE_X64=1 ended with status {status} before this test did; it wrote:\n{tail}"
        return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", text, "call")


class X64Reporter:
    """Inside the pytest that runs the x64 tests: sends each report as a line of JSON."""

    def __init__(self, config, pipe):
        self.config = config
        os.set_inheritable(pipe, False)
        self.pipe = os.fdopen(pipe, "w", buffering=1, encoding="utf-8")

    def pytest_runtest_logreport(self, report):
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.pipe.write(json.dumps(data, default=str) + "\n")


def _runs_elsewhere(item):
    return item.get_closest_marker("x64") is not None and not jax.config.read("jax_enable_x64")


def pytest_configure(config):
    if _REPORT_PIPE is not None:
        config.pluginmanager.register(X64Reporter(config, int(_REPORT_PIPE)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    # Last, so that no fixture of a wider scope is left standing between two tests of this process.
    items.sort(key=_runs_elsewhere)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if not _runs_elsewhere(item):
        return None
    stash = item.config.stash
    if _OUTCOMES not in stash:
        stash[_OUTCOMES] = X64Outcomes(item.config, [i.nodeid for i in item.session.items if _runs_elsewhere(i)])
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in stash[_OUTCOMES].of(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # Fixtures that the test before left for its file end here, where another file follows (as in a worker of pytest-xdist).
    item.session._setupstate.teardown_exact(nextitem)
    return True


def pytest_sessionfinish(session):
    if _OUTCOMES in session.config.stash:
        session.config.stash[_OUTCOMES].close()
