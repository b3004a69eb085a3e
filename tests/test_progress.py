"""A notebook shows a bar of a run by itself; a script does not."""

import io
import sys
import types

import pytest

import lrjax
from lrjax.experiment.loop.block import Block
from tests.runs import tiny

ONE = {"arms.small_rate": None, "arms.time_matched": None, "sweep.e": (0.5,)}


@pytest.mark.parametrize("kernel", [True, False])
def test_a_run_shows_a_bar_in_a_notebook_and_nothing_in_a_script(kernel, tmp_path, monkeypatch):
    shell = types.SimpleNamespace(kernel=object()) if kernel else None
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    said = io.StringIO()  # as a kernel's stderr it is no terminal and has no file number
    monkeypatch.setattr(sys, "stderr", said)
    lrjax.run(tiny(ONE), tmp_path)
    assert ("100%" in said.getvalue()) == kernel
    assert bool(said.getvalue()) == kernel


@pytest.mark.parametrize(("count", "name"), [(1, "main (1 lane)"), (3, "main (3 lanes)")])
def test_a_block_of_one_lane_has_no_plural(count, name):
    block = types.SimpleNamespace(lanes=[types.SimpleNamespace(arm="main")] * count)
    assert Block.name.__get__(block) == name
