"""Strict JAX settings for all tests, and a process with float64 for those marked x64.

JAX settles its default precision once a process, so tests marked `x64` run in a second pytest with JAX_ENABLE_X64=1.
It is told of the x64 tests one by one and sends its reports back: each test passes, fails or skips here under its own
id. With JAX_ENABLE_X64=1 in the environment everything runs in one process instead.
"""

import contextlib
import gc
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
# Tests compile far more than they compute: most run unoptimised, slow ones and those that ask for `optimised` with one
# level less of LLVM's optimisation. What users run, the main job and the wheel of `.ci/run`, is compiled in full.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The last two XLA does not know in every version, and it aborts on a flag that it does not know.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    * metadata.version("jaxlib").startswith("0.10."),
)

import jax
import pytest

import lrjax.probes  # noqa: F401 -- the probes that configs name

jax.config.update("jax_numpy_rank_promotion", "raise")
# Every run compiles its step anew, and tests run the same small configs again and again. One folder a process: a program
# that another process has half written would be read.
_COMPILED = tempfile.TemporaryDirectory(prefix="lrjax-tests-", ignore_cleanup_errors=True)
jax.config.update("jax_compilation_cache_dir", _COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Taken out of the environment, so that no process that a test starts writes to these pipes.
_PIPES = [int(pipe) for pipe in os.environ.pop("LRJAX_X64_PIPES", "").split()]
ALONE = ("-p", "xdist", "-n0", "-p", "no:cacheprovider")
_PROCESS = pytest.StashKey["X64Process"]()


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


@pytest.fixture(scope="module")
def optimised():
    """For programs that run far longer than they compile."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


class X64Process:
    """The pytest that runs the x64 tests: told of one after the other, it sends the reports on each."""

    def __init__(self, config, node_ids):
        self.config = config
        there_reads, here_writes = os.pipe()
        here_reads, there_writes = os.pipe()
        with contextlib.ExitStack() as files:
            self.requests = files.enter_context(os.fdopen(here_writes, "w", buffering=1, encoding="utf-8"))
            self.reports = files.enter_context(os.fdopen(here_reads, encoding="utf-8"))
            self.output = files.enter_context(tempfile.TemporaryFile())
            # A file, because there may be more ids than a command line holds.
            id_file = files.enter_context(tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8"))
            id_file.write("\n".join(node_ids))
            id_file.flush()
            self.process = subprocess.Popen(
                # The tests are selected already: an empty -m lifts the deselection that the configuration asks for.
                [sys.executable, "-m", "pytest", *ALONE, "-m", "", f"@{id_file.name}"],
                cwd=config.rootpath,
                env=os.environ | {"JAX_ENABLE_X64": "1", "LRJAX_X64_PIPES": f"{there_reads} {there_writes}"},
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=subprocess.STDOUT,
                pass_fds=[there_reads, there_writes],
            )
            self.files = files.pop_all()
        os.close(there_reads)
        os.close(there_writes)

    def run(self, item, nextitem):
        """The reports on one test: setup, call, teardown. A test without an end has failed."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, and will be found lost
            self.requests.write(json.dumps([item.nodeid, nextitem and nextitem.nodeid]) + "\n")
        reports = []
        while not reports or reports[-1].when != "teardown":
            line = self.reports.readline()
            if not line.endswith("\n"):
                return [*reports, self._lost(item)]
            report = self.config.hook.pytest_report_from_serializable(config=self.config, data=json.loads(line))
            if isinstance(report.longrepr, list):  # where a test was skipped, and why: JSON has no tuples
                report.longrepr = tuple(report.longrepr)
            reports.append(report)
        return reports

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.requests.close()
        self.process.wait()
        self.files.close()

    def _lost(self, item):
        status = self.process.wait()
        self.output.seek(0)
        tail = self.output.read().decode(errors="replace")[-4000:]
        text = f"The pytest with JAX_ENABLE_X64=1 ended with status {status} before this test did; it wrote:\n{tail}"
        return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", text, "call")


class X64Runner:
    """Inside the pytest that runs the x64 tests: runs those asked for, and sends each report as a line of JSON."""

    def __init__(self, config, requests, reports):
        self.config = config
        os.set_inheritable(requests, False)
        os.set_inheritable(reports, False)
        self.requests = os.fdopen(requests, encoding="utf-8")
        self.reports = os.fdopen(reports, "w", buffering=1, encoding="utf-8")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        items = {item.nodeid: item for item in session.items}
        for line in self.requests:
            asked, after = json.loads(line)
            self.config.hook.pytest_runtest_protocol(item=items[asked], nextitem=items.get(after))
        return True

    def pytest_runtest_logreport(self, report):
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.reports.write(json.dumps(data, default=str) + "\n")


def _runs_elsewhere(item):
    return item.get_closest_marker("x64") is not None and not jax.config.read("jax_enable_x64")


def pytest_configure(config):
    if _PIPES:
        config.pluginmanager.register(X64Runner(config, *_PIPES))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    # Last, so that no fixture of a wider scope is left standing between two tests of this process.
    items.sort(key=_runs_elsewhere)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if not _runs_elsewhere(item):
        return None
    stash = item.config.stash
    if _PROCESS not in stash:
        stash[_PROCESS] = X64Process(item.config, [i.nodeid for i in item.session.items if _runs_elsewhere(i)])
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in stash[_PROCESS].run(item, nextitem):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # Fixtures that the test before left for its file end here, where another file follows (as in a worker of pytest-xdist).
    item.session._setupstate.teardown_exact(nextitem)
    return True


def pytest_collection_finish(session):
    if any(item.get_closest_marker("slow") for item in session.items):
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0"  # of the processes that tests start
        jax.config.update("jax_disable_most_optimizations", False)
    # What the imports left stays to the end: no collection need look through it again.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session):
    if _PROCESS in session.config.stash:
        session.config.stash[_PROCESS].close()
