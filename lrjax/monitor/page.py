"""A monitor's report as a page."""

from __future__ import annotations

from typing import Any


def page(report: dict[str, Any], figure: Any) -> str:
    """The report as one HTML file.

    Args:
        report: of `Report.to_dict`.
        figure: of `Report.figure`.
    """
    raise NotImplementedError
