"""What an import of the library costs beside that of its dependencies: medians over processes, in seconds.

Run:  python -m tests.benchmarks.imports [--repeats=5]
"""

import argparse
import statistics
import subprocess
import sys

BASE = "jax, optax"
MODULES = ("lrjax", "lrjax.transforms", "lrjax.spectra", "lrjax.models")
TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(statement):
    """Of one import in a process of its own; the start of the interpreter is not counted."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main():
    """Interleaved, so that a slow moment of the machine meets all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    statements = {"dependencies": BASE, **{module: f"{BASE}, {module}" for module in MODULES}}
    for statement in statements.values():  # files come from the disk once
        seconds(statement)
    rows = [[seconds(statement) for statement in statements.values()] for _ in range(repeats)]
    medians = dict(zip(statements, map(statistics.median, zip(*rows, strict=True)), strict=True))
    print(f"{BASE}: {medians['dependencies']:.2f} s")
    for module in MODULES:
        print(f"{module}: {medians[module] - medians['dependencies']:+.2f} s")


if __name__ == "__main__":
    main()
