"""Pages in a real browser: nothing cut, zoom, sorting, both widths and both colour schemes."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from lrjax.papers import break_even
from lrjax.report.compare import Compared, compared
from lrjax.report.page import filled, render
from tests.report.browsing import browser, fits, needs_chromium, opened

__all__ = ["browser"]
pytestmark = needs_chromium


def made(seeds=(0, 1)):
    lanes, arrays = [], []
    for rate in (0.1, 0.01):
        for seed in seeds:
            number = len(lanes)
            values = {"optimizer.learning_rate": rate, "seed": seed}
            lanes.append({"lane": number, "arm": "main", "seed": seed, "values": values, "steps": 3000})
            loss = rate * (1 + seed) + np.exp(-np.arange(3000) / 500)
            arrays.append({"step/loss": loss, "probe/step": np.array([0, 9]), "probe/size": np.array([0.1, 0.2])})
    entry = {
        "id": "conjecture_1_rate",
        "paper": "break_even",
        "statement": "lambda_K </script><b>",
        "verdict": "not judged",
    }
    entry |= {"measured": "x" * 200, "expected": "<= 1", "paper_reports": "", "source": "section 1"}
    config = {"paper": "break_even", "experiment": "E3", "name": "</script><script>throw 1</script>"}
    status = {"state": "done", "commit": "a" * 40}
    return SimpleNamespace(config=config, status=status, lanes=lanes, arrays=arrays, metrics=[]), entry


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    run, entry = made()
    (folder / "run.html").write_text(render(run, [entry], [], paper=break_even))
    context = compared([Compared("a", run, [entry]), Compared("b", made((0,))[0], [])]) | {"title": "two"}
    (folder / "compare.html").write_text(filled("compare.html", context))
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["run.html", "compare.html"])
def test_a_page_fits_its_window_and_its_console_is_silent(pages, browser, name, width, scheme):
    page = opened(browser, pages / name, width, scheme)
    assert page.said == []
    assert fits(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(251, 251, 250)", "dark": "rgb(21, 23, 26)"}[scheme]
    # Nothing outside a box that scrolls is cut.
    texts = "[...document.querySelectorAll('h1,h2,h3,p,li,figcaption')]"
    assert page.evaluate(f"{texts}.filter(e => e.scrollWidth > e.clientWidth + 1).length") == 0
    page.close()


def test_a_drag_zooms_every_chart_and_the_button_shows_the_whole_again(pages, browser):
    page = opened(browser, pages / "run.html")
    root = page.locator("[data-from]")
    assert root.get_attribute("data-zoom") is not None
    start, end = map(float, root.get_attribute("data-zoom").split())
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=5)
    page.mouse.up()
    low, high = map(float, root.get_attribute("data-zoom").split())
    assert start < low < high < end
    page.click("button.reset")
    assert list(map(float, root.get_attribute("data-zoom").split())) == [start, end]
    assert page.said == []
    page.close()


def test_the_cursor_shows_the_values_at_its_step_and_a_lane_can_be_switched_off(pages, browser):
    page = opened(browser, pages / "run.html")
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    over.hover()
    assert page.locator("table.values caption").inner_text().startswith("Values at or near step ")
    box = page.locator("table.values input").first
    box.uncheck()
    assert not box.is_checked()
    page.click("button.none")
    assert page.locator("table.values input:checked").count() == 0
    assert page.said == []
    page.close()


def test_a_heading_sorts_numbers_by_size_both_ways(pages, browser):
    page = opened(browser, pages / "run.html")
    head = page.locator("#lanes-section th button", has_text="Loss")
    column = head.evaluate("e => e.parentNode.cellIndex")

    def values():
        return page.evaluate(
            f"[...document.querySelectorAll('#lanes-section tbody tr')].map(r => +r.cells[{column}].dataset.value)"
        )

    head.click()
    assert values() == sorted(values())
    assert len(set(values())) == 4
    head.click()
    assert values() == sorted(values(), reverse=True)
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_wide_table_of_lanes_scrolls_in_its_own_box_and_keeps_the_lane_in_sight(pages, browser, width):
    page = opened(browser, pages / "run.html", width)
    box = page.locator("#lanes-section .tall")
    box.evaluate("e => { e.querySelector('thead tr').insertCell().style.minWidth = '100rem'; e.scrollLeft = 500 }")
    assert box.evaluate("e => e.scrollLeft") > 0
    assert fits(page)
    lane = page.locator("#lanes-section tbody td").first.bounding_box()
    assert lane["x"] >= box.bounding_box()["x"]
    assert page.locator("#lanes-section th", has_text="mean of last 5\xa0%").count() == 1
    page.close()


def test_claims_side_by_side_are_cards_on_a_phone_each_with_the_name_of_its_run(pages, browser):
    page = opened(browser, pages / "compare.html", 390)
    cell = page.locator(".claims tbody td[data-label=a]")
    assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"a"'
    assert cell.bounding_box()["width"] > 300
    page.close()


def test_a_logarithmic_axis_over_thirty_decades_has_a_few_labels(browser, tmp_path):
    run, _ = made((0,))
    for arrays in run.arrays:
        arrays["step/loss"] = np.geomspace(1, 1e-30, 3000)
    (tmp_path / "run.html").write_text(render(run, [], []))
    page = opened(browser, tmp_path / "run.html")
    # The axis is drawn, not written: the splits that uPlot keeps are what it labels.
    labels = page.evaluate("uPlot.sync('curves').plots[0].axes[1]._values")
    assert 3 <= len(labels) <= 8
    assert labels[0] == "1e-30"
    assert page.locator(".chart[data-key='step/loss'] button.log").get_attribute("aria-pressed") == "true"
    page.close()


def test_formulas_of_captions_and_notes_are_set_and_no_tex_is_left():
    run, entry = made()
    paper = SimpleNamespace(NOTE=r"Dashed: $2/\eta$ and lambda*_K; `l2` is $\lambda_H^1$.")
    html = render(run, [entry], [], paper=paper)
    section = html[html.index("What is reconstructed") :].split("</section>")[0]
    assert "$" not in section
    assert "`" not in section
    assert "<mn>2</mn><mo>/</mo><mi>η</mi>" in section
    assert "<msubsup><mi>λ</mi><mi>H</mi><mn>1</mn></msubsup>" in section
    assert re.search(r"<msup><msub><mi>λ</mi><mi>K</mi></msub><mn>\*</mn></msup>", section)


def test_what_a_run_names_is_never_taken_for_a_script():
    run, _ = made()
    run.lanes[0]["arm"] = "</script><script>throw 1</script>"
    html = render(run, [], [])
    block = html[html.index('id="curves">') + 12 :].split("</script>")[0]
    assert json.loads(block)["lanes"][0]["name"].startswith("</script><script>throw 1</script>")
