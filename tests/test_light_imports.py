"""The library floor imports jax, optax and numpy: nothing that only networks, runs, figures or type checkers need."""

import subprocess
import sys

import pytest

from tests.runs import REPOSITORY, environment

HEAVY = {"chex", "flax", "jaxtyping", "matplotlib", "ml_collections", "orbax", "tensorflow", "tensorflow_datasets"}
LOADED = "import sys; print(*{name.split('.')[0] for name in sys.modules})"


def loaded_by(statement):
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; {LOADED}"],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["lrjax", "lrjax.transforms", "lrjax.spectra"])
def test_import_loads_no_package_of_networks_runs_figures_or_types(module):
    packages = loaded_by(f"import {module}")
    assert "lrjax" in packages
    assert not packages & HEAVY


def test_a_module_that_imports_a_network_is_seen_to():
    assert "flax" in loaded_by("import lrjax.models")
