"""The tests of lrjax; a package, so that they can share `tests.reference`."""
