"""Synthetic runs of every claim, see `lrjax.papers.synthetic`: claim id -> `Synthetic`."""

from lrjax.papers.benign_osc import synthetic_accuracy, synthetic_exact, synthetic_images, synthetic_series
from lrjax.papers.synthetic import Synthetic

SYNTHETIC: dict[str, Synthetic] = {
    **synthetic_accuracy.SYNTHETIC,
    **synthetic_series.SYNTHETIC,
    **synthetic_exact.SYNTHETIC,
    **synthetic_images.SYNTHETIC,
}
