"""What a person at a terminal sees: predictions before the run, progress, claims and the place of the report after it."""

import json
import os
import sys
from pathlib import Path

from lrjax import train, workdirs
from lrjax.claims import print_table
from lrjax.config import Config, check, nearest
from lrjax.papers import PAPERS
from lrjax.report import write_report
from lrjax.sweep import plan

PREEMPTED = 75


def keep_compiled_programs() -> None:
    """Keeps compiled programs on disk, in JAX_COMPILATION_CACHE_DIR or the user's cache folder, for the next start."""
    import jax

    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lrjax" / "compiled"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:
            return  # a home that cannot be written to costs a compilation, no more
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def run_and_report(
    spec: str, config: Config, workdir: Path | None, command: str, *, fresh: bool = False, cache: bool = True
) -> int:
    """Runs an experiment (or resumes it, or shows it when it is done) and writes its report.

    Returns:
        The exit status: 0 done, 75 preempted.

    Raises:
        LrjaxError: see `lrjax.run`.
    """
    if cache:
        keep_compiled_programs()
    workdir = workdir or workdirs.default_workdir(spec, config)
    check(config.paper in PAPERS, f"unknown paper {config.paper!r}; {nearest(config.paper, PAPERS)}")
    paper, groups = PAPERS[config.paper], plan(config)
    if fresh:
        workdirs.start_over(workdir)
    status = workdirs.inspect(workdir, config) or {}
    done = status.get("state") == "done"
    change = workdirs.code_change(status) if status else None
    if change:
        print(f"note: {change}", file=sys.stderr)
    try:
        if done:
            train.run(config, workdir)  # refuses while another process has it open
            print(f"{workdir} is done already; this is its report. --fresh runs it again.", file=sys.stderr)
        else:
            verb = "going on with" if (workdir / "ckpt").is_dir() else "running"
            print(f"{paper.before(groups)}\n{verb} {workdir}".lstrip(), flush=True)
            train.run(config, workdir, quiet=False, command=command)
    except (train.Preempted, KeyboardInterrupt):
        print(f"preempted; {workdir} is saved, the same command goes on from there", file=sys.stderr)
        return PREEMPTED
    finished = workdir / "claims.json"
    shown = done and finished.exists() and (workdir / "report.html").exists()
    print_table(json.loads(finished.read_text()) if shown else write_report(workdir))
    print(f"\nreport: {workdir / 'report.html'}")
    return 0
