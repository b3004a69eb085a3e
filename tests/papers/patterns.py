"""Small configs of the learning-rate decay paper."""

import lrjax


def config(experiment, overrides=None):
    """An experiment at smoke scale."""
    return lrjax.load_config(f"configs/lr_decay.py:{experiment},scale=smoke", overrides or {})
