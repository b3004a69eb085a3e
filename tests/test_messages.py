"""What one process sends another comes back as it was, and nothing in it is run."""

import io
import pickle

import ml_dtypes
import numpy as np
import pytest

from lrjax.devices.messages import packed, unpacked


def test_numbers_text_and_arrays_of_every_type_come_back_as_they_were():
    arrays = [
        np.float32(0.5),
        np.arange(6).reshape(2, 3),
        np.ones((2, 0)),
        np.array(1 + 2j),
        np.ones(3, ml_dtypes.bfloat16),
    ]
    value = ({"a": arrays, "array": {"dict": None}, "value": "x"}, [True, 3, 0.1, float("inf")], {}, ())
    (first, *rest), back = value, unpacked(packed(value))
    assert list(back[1:]) == rest
    assert back[0]["array"] == first["array"]
    for one, other in zip(arrays, back[0]["a"], strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize(
    "value", [object(), np.array([object()]), {3: 4}, {1, 2}], ids=lambda value: type(value).__name__
)
def test_what_only_pickle_could_send_is_refused(value):
    with pytest.raises(TypeError, match="cannot be sent"):
        packed(value)


def test_a_pickled_message_is_not_read():
    file = io.BytesIO()
    pickle.dump({"a": 1}, file)
    with pytest.raises(Exception, match=r".+"):
        unpacked(file.getvalue())
