"""The tests of `lrjax.monitor`."""
