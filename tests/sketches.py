"""Reports whose figures are made but not drawn, for tests of all that stands beside them: drawing is most of their time."""

import base64
import contextlib

import pytest

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
EMPTY = '<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"><title>{}</title></svg>'


@contextlib.contextmanager
def sketches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrjax.plots.drawing.png", lambda fig: base64.b64decode(PIXEL))
        patch.setattr("lrjax.plots.svg.svg", lambda fig, name: EMPTY.format(name).encode())
        yield
