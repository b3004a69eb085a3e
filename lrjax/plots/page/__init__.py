"""What any page of lrjax shares: one HTML file with everything inside, in light and in dark, for a phone and for a desk."""

from lrjax.plots.page.monitor import monitor_page
from lrjax.plots.page.rendering import asset, environment, filled

__all__ = ["asset", "environment", "filled", "monitor_page"]
