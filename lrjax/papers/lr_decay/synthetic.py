"""Synthetic runs of this paper's claims, see `lrjax.papers.synthetic`.

Lanes are those of the configs at small scale; where one seed is run there they have the three of paper scale, and transfer of
images is that of paper scale. Arrays are those that checks and premises read. Deviations of seeds are those of our runs of
PS10 where there are such; those of images, of transfer and of curvature are assumed, since only single seeds were run.
"""

from lrjax.papers.lr_decay.synthetic_causes import CAUSES
from lrjax.papers.lr_decay.synthetic_images import IMAGES
from lrjax.papers.lr_decay.synthetic_levels import LEVELS
from lrjax.papers.lr_decay.synthetic_patterns import NOISE, STAGES

SYNTHETIC = {**STAGES, **NOISE, **CAUSES, **LEVELS, **IMAGES}
