"""Synthetic runs of this paper's claims, see `lrjax.papers.synthetic`.

Lanes are those of the configs at small scale, with the number of seeds that is run there; arrays are those that checks and
premises read. Deviations of seeds are those of our runs where there is one.
"""

from lrjax.papers.lr_decay.synthetic_causes import CAUSES
from lrjax.papers.lr_decay.synthetic_images import IMAGES
from lrjax.papers.lr_decay.synthetic_patterns import NOISE, STAGES

SYNTHETIC = {**STAGES, **NOISE, **CAUSES, **IMAGES}
