"""What pages share, and the page of a monitor: nothing of it loads from elsewhere, every text is escaped, and it fits."""

import base64
import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from lrjax.errors import LrjaxError
from lrjax.plots.page import environment, filled, monitor_page
from lrjax.plots.svg import svg
from tests.report.browsing import browser, fits, needs_chromium, opened
from tests.runs import REPOSITORY
from tests.runs import environment as variables

__all__ = ["browser"]

EVIL = "<script>alert('x')</script> & \"q\""


def drawing():
    fig = Figure(figsize=(10, 6), layout="constrained")
    for axes in fig.subplots(2, 3).ravel():
        axes.plot(np.arange(9), np.arange(9) ** 2)
    return svg(fig, "six")


def context(text="eta lambda_1 <= 2", **changed):
    row = {
        "instrument": "lambda_1",
        "value": 0.4712345,
        "line": "2 / eta",
        "reading": text,
        "source": "arXiv 2412.20553",
    }
    cost = {"instrument": "gain ratio", "flops": 1.33, "times": 100, "seconds": 1.25, "share": 0.0125}
    return {
        "title": text,
        "summary": text,
        "advice": [{"sentence": text, "evidence": f"gap .23; {text}", "source": text}],
        "rows": [row, row | {"value": None, "line": None, "reading": "x" * 120}, row | {"value": 812}],
        "figure": {"title": text, "caption": text, "svg": drawing(), "png": None},
        "costs": [cost, cost | {"instrument": "noise scale", "flops": None, "seconds": 0.25, "share": 0.0025}],
        "notices": [text],
        "facts": {"optimizer": "adam", "learning rate": None, "devices": text},
    } | changed


def words(page):
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", body))


def test_a_monitors_page_tells_everything_that_it_is_given():
    told = words(monitor_page(context("slow down")))
    for part in (
        "slow down", "gap .23;", "0.4712", "not measured", "nothing", "812", "1.33", "100", "1.2 s", "250 ms", "1.2 %",
        "0.25 %", "together 1.5 s 1.5 %", "optimizer adam", "learning rate unknown",
    ):  # fmt: skip
        assert part in told, part
    assert 'href="https://arxiv.org/abs/2412.20553"' in monitor_page(context())
    assert "<msub><mi>λ</mi><mn>1</mn></msub>" in monitor_page(context())


def test_a_monitors_page_runs_no_script_and_loads_nothing():
    page = monitor_page(context(EVIL))
    assert "<script" not in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'none'" in page
    assert not re.findall(r"""(?:src|href)=["']?(?!data:|https://arxiv\.org/abs/)[^#"'\s>]+""", page)
    assert "&lt;script&gt;" in page


def test_a_figure_is_inside_as_svg_or_png():
    drawn, png = drawing(), b"\x89PNG"
    assert f"data:image/svg+xml;base64,{base64.b64encode(drawn).decode()}" in monitor_page(context())
    page = monitor_page(context(figure={"title": "a", "caption": "b", "svg": None, "png": png}))
    assert f'class=inverted alt="a" src="data:image/png;base64,{base64.b64encode(png).decode()}"' in page
    assert "<figure" not in monitor_page(context(figure=None))


def test_what_was_not_measured_is_told():
    told = words(monitor_page({"title": "A run", "summary": "Nothing yet."}))
    assert "No rule applies to what was measured." in told
    assert "Nothing has been measured yet." in told
    assert "What it cost" not in told


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rowz": []}, "the page of a monitor takes no 'rowz'; did you mean 'rows'?"),
        ({"rows": [{"value": 1}]}, "an entry of rows has no instrument; give it, a str"),
        ({"advice": [{"sentense": "x"}]}, "an entry of advice takes no 'sentense'; did you mean 'sentence'?"),
        ({"figure": {"title": "a", "caption": "b"}}, "the figure has neither svg nor png; give one of them, as bytes"),
        ({"figure": {"svg": "<svg>"}}, "the figure has neither svg nor png; give one of them, as bytes"),
    ],
)
def test_a_wrong_context_gets_one_sentence(changed, sentence):
    with pytest.raises(LrjaxError) as told:
        monitor_page(context() | changed)
    assert str(told.value) == sentence
    with pytest.raises(LrjaxError, match="has no summary"):
        monitor_page({"title": "A run"})


def test_the_policy_names_each_script_by_its_hash():
    script = "throw '</b>'"
    page = filled("base.html", {"title": "a", "scripts": [script]})
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page
    assert f"<script>{script}</script>" in page


def test_pages_of_runs_extend_the_shared_base_and_have_no_copy_of_it():
    shared, both = set(environment().list_templates()), set(environment("lrjax.report").list_templates())
    assert {"base.html", "parts.html", "style.css", "monitor.html"} <= shared < both
    own = {path.name for path in (REPOSITORY / "lrjax" / "report" / "templates").iterdir()}
    assert own == both - shared


def test_what_pages_share_loads_no_jax_and_no_figures():
    code = "import sys, lrjax.plots.page; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=variables(), capture_output=True, text=True, check=True
    )
    assert not {"jax", "matplotlib", "flax", "lrjax.report", "lrjax.experiment"} & set(done.stdout.split())


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_monitors_page_fits_its_window_and_its_console_is_silent(browser, tmp_path, width, scheme):
    (tmp_path / "monitor.html").write_text(monitor_page(context("a long word: " + "x" * 120)), encoding="utf-8")
    page = opened(browser, tmp_path / "monitor.html", width, scheme, ready="main")
    assert page.said == []
    assert fits(page)
    texts = "[...document.querySelectorAll('h1,h2,h3,p,li,td,figcaption')]"
    assert page.evaluate(f"{texts}.filter(e => e.scrollWidth > e.clientWidth + 1).length") == 0
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.close()
