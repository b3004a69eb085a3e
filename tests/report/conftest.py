"""What tests of reports share."""

import pytest

from tests.sketches import sketches


@pytest.fixture
def sketched():
    """The figures of reports are made but not drawn."""
    with sketches():
        yield
