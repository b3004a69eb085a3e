"""Curvature of stored checkpoints, `python -m lrjax.posthoc --workdir=DIR`; and checkpoints of other programs."""
