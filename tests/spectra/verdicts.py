"""Verdicts of the tests of cases: refused in a sentence that names the cause, or right."""

import numpy as np
import pytest

from lrjax.errors import LrjaxError


def sentence(error, *words):
    """Checks a message: one line, and one of the words in it; no words for any cause."""
    text = str(error)
    assert "\n" not in text, f"not one line: {text}"
    assert len(text.split()) >= 6, f"too short for a sentence: {text}"
    assert len(text) <= 700, f"too long for a sentence: {text}"
    assert not words or any(word.lower() in text.lower() for word in words), f"none of {words} in: {text}"


def refused(call, *words):
    """Checks that the call is refused for a cause that its message names."""
    try:
        result = call()
    except LrjaxError as error:
        sentence(error, *words)
    else:
        pytest.fail(f"not refused: {result}")


def right_or_refused(call, right, *words, rtol=1e-3, atol=0.0):
    """Checks that the call gives the right number, or is refused for a cause that its message names."""
    try:
        measured = call()
    except LrjaxError as error:
        sentence(error, *words)
    else:
        np.testing.assert_allclose(np.asarray(measured, np.float64), right, rtol=rtol, atol=atol)
