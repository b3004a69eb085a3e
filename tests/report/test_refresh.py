"""`--refresh` on a run that goes on, in a real browser: the page changes by itself, and stays once the run has ended."""

import re
import subprocess
import sys
import time

import pytest

from tests.report.browsing import browser, needs_chromium, opened, sync_api
from tests.runs import CLEAR, REPOSITORY, TINY, environment, start

__all__ = ["browser"]
pytestmark = needs_chromium
KEPT = [flag for flag in TINY if not re.search(r"(steps|every|features)=", flag)]
STEPS = [f"--config.{key}=40000" for key in ("steps", "arms.small_rate.steps", "arms.time_matched.steps")]
LONG = [*KEPT, *STEPS, "--config.log_every=200", "--config.probes.features=200", "--config.checkpoint_every=2000"]
LAST = "Math.max(...JSON.parse(document.getElementById('curves').textContent).grids.flat())"
MARK = "meta[http-equiv=refresh]"


def wait_until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def seen(page, expression):
    """Its value in the page; None while the page is being read again. (Not by waiting in it: the policy forbids eval.)"""
    try:
        return page.evaluate(expression)
    except sync_api.Error:
        return None


@pytest.mark.slow
def test_the_page_of_a_live_run_goes_on_with_it_and_stays_when_it_is_done(tmp_path, browser):
    workdir = tmp_path / "run"
    with start([f"--config={CLEAR}", *LONG, f"--workdir={workdir}"]) as run:
        wait_until((workdir / "ckpt" / "block-000").exists)
        words = [sys.executable, "-m", "lrjax.report", str(workdir), "--refresh=1"]
        with subprocess.Popen(words, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE) as report:
            wait_until((workdir / "report.html").exists)
            page = opened(browser, workdir / "report.html")
            assert page.locator(MARK).get_attribute("content") == "1"
            assert "This run is going on." in page.content()
            found = []
            wait_until(lambda: found.append(seen(page, LAST)) or found[-1] is not None)
            before = found[-1]
            wait_until(lambda: (seen(page, LAST) or before) > before)
            assert run.communicate(timeout=400)[0]
            assert report.wait(timeout=120) == 0
            report.stdout.read()
    wait_until(lambda: seen(page, f"document.querySelectorAll('{MARK}').length") == 0)
    page.wait_for_selector("[data-ready=yes]")
    assert "This run is going on." not in page.content()
    page.evaluate("window.mark = 1")
    page.wait_for_timeout(2500)
    assert page.evaluate("window.mark") == 1  # not read again
    page.close()
