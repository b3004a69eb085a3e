"""Every python block of README.md and docs/ runs, every public name has a page, and every link leads somewhere."""

import doctest
import re
from pathlib import Path

import jax
import pytest

import lrjax
from lrjax import data, models, monitor, papers, spectra, transforms
from lrjax.experiment.config import plugins
from lrjax.experiment.loop.probe import PROBES
from lrjax.experiment.step import schedules

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts)
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
LONG = ("frameworks", "models", "monitor")  # pages whose blocks take ten seconds and more
REGISTRIES = (schedules.SCHEDULES, data.DATASETS, models.MODELS, PROBES, papers.PAPERS)


def name(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path):
    """(line of the first line, source) of each python block."""
    text = path.read_text(encoding="utf-8")
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in FENCE.finditer(text)]


@pytest.fixture
def a_reader_s_python(tmp_path, monkeypatch):
    """JAX as it comes, configs of the checkout, and registries that are left as they were."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    before = [dict(registry) for registry in REGISTRIES]
    with jax.numpy_rank_promotion("allow"):
        yield
    for registry, content in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(content)
    plugins.load.cache_clear()


@pytest.mark.usefixtures("a_reader_s_python")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LONG)) for path in TEXTS if blocks(path)],
    ids=[name(path) for path in TEXTS if blocks(path)],
)
def test_the_python_blocks_of_a_page_run_in_order_and_print_what_stands_there(path):
    namespace = {"__name__": "page"}
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for line, source in blocks(path):
        if source.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(source, namespace, name(path), str(path), line)
            complaints = []
            runner.run(test, out=complaints.append, clear_globs=False)
            assert not complaints, "".join(complaints)
            namespace |= test.globs
        else:
            exec(compile("\n" * line + source, str(path), "exec"), namespace)


@pytest.mark.parametrize(
    ("page", "module"), [("lrjax", lrjax), ("spectra", spectra), ("transforms", transforms), ("monitor", monitor)]
)
def test_every_public_name_has_a_page(page, module):
    text = (ROOT / "docs" / "api" / f"{page}.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    described = {code.rsplit(".")[-1] for code in re.findall(r"`([\w.]+)`", text)}  # modules, dicts, the version
    missing = set(module.__all__) - set(listed) - described
    assert not missing, f"add to docs/api/{page}.md: {', '.join(sorted(missing))}"
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(module.__all__)


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_every_link_within_the_repository_leads_somewhere(path):
    for target in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
        if not re.match(r"https?://|mailto:", target):
            place, _, anchor = target.partition("#")
            file = (path.parent / place).resolve() if place else path
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8000
