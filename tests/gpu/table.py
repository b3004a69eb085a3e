"""Right on this device? Memory, curvature, transforms, convolutions, gradients, resumed runs and lanes.

Run:  python -m tests.gpu [--checks=spectra,convolutions,...]

It is meant for 3 minutes on a card, where it was not run; on a CPU it passes.

A line a check: the largest error, relative to the largest number, and what is allowed. Exit status 1 where one is larger.
Operations are deterministic here; which of cuDNN's algorithms is taken is stored beside the compiled programs (JAX does so in
its compilation cache), so that a run that is resumed takes the same.
"""

import argparse
import os
import time
from collections.abc import Sequence

import jax

from tests.gpu import arithmetic, trained

CHECKS = {
    "memory": trained.memory,  # first: a device tells the most that it ever held, and no other check holds as much
    "spectra": arithmetic.curvature,
    "transforms": arithmetic.twins,
    "convolutions": arithmetic.convolutions,
    "steps": arithmetic.steps,
    "resume": trained.resumed,
    "lanes": trained.lanes,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where an error is larger than allowed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checks", default=",".join(CHECKS), help=f"some of {', '.join(CHECKS)}")
    names = parser.parse_args(arguments).checks.split(",")
    if unknown := [name for name in names if name not in CHECKS]:
        parser.error(f"there is no check {unknown[0]!r}; --checks takes {', '.join(CHECKS)}")
    flags = os.environ.get("XLA_FLAGS", "").strip()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, XLA_FLAGS={flags}")
    wrong = 0
    for part in names:
        begin = time.perf_counter()
        for name, found, allowed in CHECKS[part]():
            if isinstance(found, str):
                print(f"  {part:<13} {name:<44} not run: {found}", flush=True)
                continue
            right = bool(found <= allowed)  # NaN is not
            wrong += not right
            print(f"  {part:<13} {name:<44} {found:8.1e} of {allowed:7.1e}  {'ok' if right else 'WRONG'}", flush=True)
        print(f"  {part:<13} {time.perf_counter() - begin:.0f} s", flush=True)
    print("right" if not wrong else f"{wrong} wrong")
    return int(wrong > 0)
