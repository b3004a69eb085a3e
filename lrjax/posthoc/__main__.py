"""Curvature of the checkpoints of a run, after the fact: `python -m lrjax.posthoc --workdir=DIR --steps=all|0,100,...`."""

import argparse
import sys
from collections.abc import Sequence

from lrjax.errors import LrjaxError, check, refuse

FLAGS = {
    "workdir": "run directory; it is only read",
    "steps": "all (default), or numbers of stored steps: 0,100; 0 needs no checkpoint",
    "lanes": "all (default), or numbers: 0,3",
    "matrices": "hessian, ggn, fisher, empirical_fisher, gradient_covariance, preconditioned_hessian, with commas between",
    "k": "eigenpairs of each matrix",
    "tol": "relative residual at which a pair is good enough",
    "max_steps": "products at most for the pairs of a matrix, and steps of --density",
    "examples": "size of the evaluation subset; 0: 5 percent of the training set, but 4096 at least",
    "batch_size": "examples a product sees at once",
    "seed": "of the choice of examples and of random vectors",
    "spread": "measure lambda_1 on so many other subsets of that size too",
    "probes": "random vectors of --density and --trace; default 10",
    "data_dir": "folder of the tfds data, if it moved",
    "out": "folder to write to; default: WORKDIR/spectra",
}
SWITCHES = {
    "batch_statistics": "BatchNorm with the statistics of each batch, not the running ones",
    "density": "spectral density too",
    "trace": "trace too, with a standard error",
    "debug": "show the stack trace of an error",
}


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m lrjax.posthoc") -> int:
    """Exit status: 0 done, 1 failed with one sentence on stderr, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog=program, description=__doc__, allow_abbrev=False)
    parser.error = lambda message: refuse(f"{message}; --help lists the flags")  # one sentence and status 1
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name}", help=text)
    for name, text in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    try:
        flags = parser.parse_args(arguments)
        check(bool(flags.workdir), "give --workdir=DIR, the directory of a run")
        from lrjax.posthoc.cli import start

        return start(flags, arguments)
    except Exception as error:
        if "--debug" in arguments:
            raise
        first = f"{type(error).__name__}: {error}".split("\n")[0] + "; run again with --debug to see where"
        print(f"error: {error if isinstance(error, LrjaxError) else first}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
