"""`python -m tests.gpu`."""

import os
import sys

from lrjax.experiment.loop import process

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

if __name__ == "__main__":
    if DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):  # read when JAX first asks for its devices
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    process.keep_compiled_programs()
    from tests.gpu.table import main

    sys.exit(main())
