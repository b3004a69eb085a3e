"""A monitor's report as a page: one HTML file in the style of lrjax's reports, with everything inside."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import jax

from lrjax.plots.page import monitor_page
from lrjax.plots.svg import svg
from lrjax.version import __version__

TITLE = "What the learning rate is doing"
CAPTION = (
    "Loss of a batch, and of the probe set at the parameters and at their average, with the gain ratio; the learning rate "
    "and the rates at which each curvature would be at its line; size of an update over that of the weights; angle of a step, "
    "at equilibrium dashed; noise over signal, running means of each; curvature and its lines."
)


def page(report: Mapping[str, Any], figure: Any) -> str:
    """The report as one HTML document.

    Args:
        report: of `Report.to_dict`.
        figure: of `Report.figure`.

    Returns:
        HTML; nothing in it loads from elsewhere.

    Example:
        >>> from lrjax.monitor.optimizer_facts import Facts
        >>> from lrjax.monitor.report import Report
        >>> report = Report([{"step": 0, "loss": 1.0, "gradient_norm": 1.0}], Facts("sgd"))
        >>> "<h1>What the learning rate is doing</h1>" in page(report.to_dict(), report.figure())
        True
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    context = {
        "title": TITLE,
        "summary": _first(report),
        "advice": [{key: one[key] for key in ("sentence", "evidence", "source")} for one in report["advice"]],
        "rows": report["table"],
        "figure": {"title": "The run", "caption": CAPTION, "svg": svg(figure, "monitor"), "png": picture.getvalue()},
        "costs": [
            {
                "instrument": cost["instrument"], "flops": cost["steps"], "times": cost["measured"],
                "seconds": cost["seconds"], "share": cost["measured_share"],
            }
            for cost in report["costs"]
        ],
        "notices": list(report["notices"]),
        "facts": {
            "run": report["summary"],
            "devices": f"{jax.device_count()} {jax.devices()[0].platform}",
            "versions": f"lrjax {__version__}, JAX {jax.__version__}",
        },
    }  # fmt: skip
    return monitor_page(context)


def _first(report: Mapping[str, Any]) -> str:
    """The sentence that matters most, or the run in a line."""
    said = [one["sentence"] for one in report["advice"] if one["level"] != "information"]
    return said[0] if said else report["summary"]
