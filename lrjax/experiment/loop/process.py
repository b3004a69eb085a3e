"""Settings of the process, made before JAX starts: large pages, threads, the compilation cache."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TUNABLE = "glibc.malloc.hugetlb"
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(environment: dict[str, str], offered: str) -> dict[str, str] | None:
    """The environment in which glibc asks for large pages; None where that changes nothing.

    A training step on a CPU frees and takes buffers of many megabytes. In pages of 4 kB each is a page fault again, at every
    step; in pages of 2 MB there are five hundred times fewer.

    Args:
        environment: that of this process.
        offered: what the kernel says in `/sys/kernel/mm/transparent_hugepage/enabled`.

    Example:
        >>> with_huge_pages({}, "always [madvise] never")
        {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}
        >>> with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "always [madvise] never") is None
        True
    """
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "[madvise]" not in offered or TUNABLE in tunables:
        return None
    return environment | {"GLIBC_TUNABLES": ":".join(filter(None, [tunables, f"{TUNABLE}=1"]))}


def restart_with_huge_pages() -> None:
    """Starts this Python again with large pages: glibc reads the setting only when a process begins. Keeps its number.

    To be called before anything was done; returns where the kernel has no large pages on request, where the user has chosen,
    and where this is no program of its own (`python -c`, a notebook).
    """
    offered = HUGE_PAGES.read_text() if HUGE_PAGES.exists() else ""
    environment = with_huge_pages(dict(os.environ), offered)
    program = sys.orig_argv[1:2]
    if environment is not None and (program == ["-m"] or [Path(word).name for word in program] == ["lrjax"]):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def limit_threads(number: int) -> int | None:
    """Gives XLA on a CPU this many threads, which it takes when JAX first asks for its devices; returns how many it was told.

    A step on small arrays is done before a second thread has woken up, and waiting for it costs more than it saves.

    Args:
        number: of threads; 0 leaves the choice to XLA (all cores). A user's own NPROC is kept.

    Example:
        >>> _ = os.environ.pop("NPROC", None)
        >>> limit_threads(0)
    """
    if number:
        os.environ.setdefault("NPROC", str(number))
    return int(os.environ["NPROC"]) if "NPROC" in os.environ else None


def spread_over_cores(threads: int, lanes: int) -> int:
    """Makes this CPU as many devices as have room for `threads` threads each; returns how many, 1 where nothing was set.

    One thread a step leaves the other cores idle: as devices of their own they take the next lanes of a sweep. To be called
    before JAX first asks for its devices; later nothing is set. A user's own JAX_NUM_CPU_DEVICES or XLA_FLAGS are kept.

    Args:
        threads: of a step, as of `limit_threads`; 0: a step has all cores, and there is one device.
        lanes: of the experiment; there are no more devices than lanes, or they would share a lane's batch.

    Example:
        >>> spread_over_cores(threads=0, lanes=12), spread_over_cores(threads=1, lanes=1)
        (1, 1)
    """
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    count = min((os.cpu_count() or 1) // threads, lanes) if threads and not chosen else 1
    if count > 1:
        import jax

        try:
            jax.config.update("jax_num_cpu_devices", count)
        except RuntimeError:  # JAX has its devices already, as in a notebook
            return 1
    return max(count, 1)


def keep_compiled_programs() -> str | None:
    """Keeps compiled programs on disk for the next start; returns where, None where that is not possible.

    In JAX_COMPILATION_CACHE_DIR, or else in the user's cache folder.
    """
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lrjax" / "compiled"
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None  # a home that cannot be written to costs a compilation, no more
        folder = str(cache)
        jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


def settings(cache: str | None, threads: int | None, devices: int = 1) -> str:
    """One line for the log: what was set, and the flag that leaves it alone."""
    large = TUNABLE in os.environ.get("GLIBC_TUNABLES", "")
    pages = f"large pages ({os.environ['GLIBC_TUNABLES']})" if large else "pages as the system gives them"
    kept = f"compiled programs kept in {cache}" if cache else "compiled programs not kept"
    used = "a thread a core" if threads is None else f"{threads} thread{'s' if threads > 1 else ''} (NPROC)"
    used += f" on each of {devices} CPU devices (JAX_NUM_CPU_DEVICES)" if devices > 1 else ""
    return f"process: {pages}; {used}; {kept}; --plain_process changes nothing"


@contextmanager
def traced(folder: Path | None) -> Iterator[Callable[[Any], Any]]:
    """Context manager that writes a profiler trace of its body into a folder; None: does nothing.

    Yields:
        A function that returns its argument, and with a trace blocks until it is ready.
    """
    if folder is None:
        yield lambda values: values
        return
    import jax

    with jax.profiler.trace(str(folder)):
        yield jax.block_until_ready
