"""The notebooks run from top to bottom where nothing but the built wheel is installed, and keep their figures."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
pytest.importorskip("nbclient", reason="nbclient is not installed")

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "colabs").glob("*.ipynb"))
TFDS = os.environ.get("TFDS_DATA_DIR") or str(REPOSITORY.parent / "shared" / "tfds")
DATA = {"monitor_images": "cifar10", "monitor_spike": "cifar10", "monitor_text": "imdb_reviews"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(environment that has what lrjax needs, but not lrjax; the wheel that pip is to install)."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, REPOSITORY], check=True)
    venv.create(folder / "venv", with_pip=True)
    own = next((folder / "venv" / "lib").glob("python*/site-packages"))
    # Links, as an installed checkout leaves a folder lrjax beside the packages; .pth files in there are not followed.
    (folder / "needed").mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(("lrjax", "_lrjax")):
            (folder / "needed" / path.name).symlink_to(path)
    (own / "needed.pth").write_text(str(folder / "needed"))
    python = str(folder / "venv" / "bin" / "python")
    (folder / "kernels" / "fresh").mkdir(parents=True)
    arguments = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": arguments, "display_name": "fresh", "language": "python"}
    (folder / "kernels" / "fresh" / "kernel.json").write_text(json.dumps(spec))
    return folder / "venv", next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_the_wheel_that_its_first_cell_installs(path, installed, tmp_path):
    if path.stem in DATA and not (Path(TFDS) / DATA[path.stem]).is_dir():
        pytest.skip(f"no prepared {DATA[path.stem]} in {TFDS}")
    environment, wheel = installed
    pip = [environment / "bin" / "python", "-m", "pip"]
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "lrjax"], check=False)
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("import lrjax\n\nprint(lrjax.__file__)"))
    copy = tmp_path / path.name
    nbformat.write(notebook, copy)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"LRJAX_INSTALL": f"--no-deps --ignore-installed {wheel}", "JUPYTER_PATH": str(environment.parent)}
    environ["TFDS_DATA_DIR"] = TFDS
    jupyter = [Path(sys.executable).with_name("jupyter"), "execute", "--kernel_name=fresh", "--timeout=300"]
    done = subprocess.run([*jupyter, "--inplace", copy], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(copy, 4)
    where = "".join(output.get("text", "") for output in executed.cells[-1].outputs)
    assert Path(where.strip()).is_relative_to(environment)
    assert figures(executed)


def figures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_there_is_a_quickstart_a_notebook_for_each_paper_and_those_of_the_monitor():
    papers = {path.stem for path in (REPOSITORY / "lrjax" / "papers").iterdir() if (path / "__init__.py").is_file()}
    assert {path.stem for path in NOTEBOOKS} == papers | {"quickstart"} | set(DATA)


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


def installs(path, folder, monkeypatch, capsys, **environment):
    """What the first cell of a notebook would give to pip in a folder, where lrjax is not installed."""
    notebook = nbformat.read(path, 4)
    source = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    told = []
    source = source.replace("%pip install -q {command}", "told.append(command)")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LRJAX_INSTALL", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(source, {"told": told})
    assert f"installing lrjax from {told[0]}" in capsys.readouterr().out
    return told[0]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_what_is_there_and_never_a_name_of_an_index(path, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="put a wheel of lrjax"):
        installs(path, tmp_path, monkeypatch, capsys)
    assert installs(path, tmp_path, monkeypatch, capsys, LRJAX_INSTALL="git+https://x/y") == "git+https://x/y"
    assert installs(path, REPOSITORY / "colabs", monkeypatch, capsys) == f'"{REPOSITORY}"'
    (tmp_path / "lrjax-0.1.0-py3-none-any.whl").touch()
    assert installs(path, tmp_path, monkeypatch, capsys) == f'"{tmp_path / "lrjax-0.1.0-py3-none-any.whl"}"'


def test_nothing_tells_anybody_to_install_lrjax_by_its_name():
    places = ["lrjax", "launch", "docs", "colabs", "README.md", "configs"]
    found = [
        path for place in places for path in [REPOSITORY / place, *(REPOSITORY / place).rglob("*")] if path.is_file()
    ]
    texts = {path: path.read_text() for path in found if path.suffix in (".py", ".md", ".ipynb", ".yaml", ".sh")}
    named = re.compile(r"pip install (?:-\w+ )*[\"'\\]*lrjax\b")
    assert [str(path) for path, text in texts.items() if named.search(text)] == []
