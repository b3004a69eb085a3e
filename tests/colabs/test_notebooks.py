"""The notebooks run from top to bottom where nothing but the built wheel is installed, and keep their figures."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
jupyter_client = pytest.importorskip("jupyter_client", reason="nbclient is not installed")

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "colabs").glob("*.ipynb"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(python of a fresh environment that has what lrjax needs, but not lrjax; what pip is to install)."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, REPOSITORY], check=True)
    venv.create(folder / "venv", with_pip=True)
    own = next((folder / "venv" / "lib").glob("python*/site-packages"))
    # As a path alone: .pth files in it are not followed, and one of them may lead to this checkout.
    (own / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv" / "bin" / "python", next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_the_wheel_that_its_first_cell_installs(path, installed, tmp_path, monkeypatch):
    python, wheel = installed
    monkeypatch.setenv("LRJAX_INSTALL", f"--no-deps --ignore-installed {wheel}")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "lrjax"], check=False)
    kernel = jupyter_client.AsyncKernelManager(kernel_name="python3")
    kernel.kernel_spec.argv[0] = str(python)
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("import lrjax\n\nprint(lrjax.__file__)"))
    nbclient.NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    where = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert os.path.commonpath([where.strip(), str(python.parents[1])]) == str(python.parents[1])
    assert figures(notebook)


def figures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_there_is_a_quickstart_and_a_notebook_for_each_paper():
    papers = {path.stem for path in (REPOSITORY / "lrjax" / "papers").iterdir() if (path / "__init__.py").is_file()}
    assert {path.stem for path in NOTEBOOKS} == papers | {"quickstart"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_installs_lrjax_first_and_keeps_its_figures(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "%pip install" in code[0].source
    assert all(cell.execution_count == number for number, cell in enumerate(code, start=1))  # a fresh kernel, in order
    assert figures(notebook)
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds
