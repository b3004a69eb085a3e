"""Tests of `lrjax.monitor`."""
