"""From photos to tensors: channel order, units, layout, and refusals that say what was expected."""

import numpy as np
import pytest

from models.preprocessing import Preprocessing

RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 200


def test_rgb_and_bgr_put_red_where_the_network_wants_it() -> None:
    rgb = Preprocessing(mean=(100, 0, 0), scale=(50, 1, 1))([RED, RED])
    bgr = Preprocessing(mean=(0, 0, 100), order="BGR")([RED])
    assert rgb.shape == (2, 3, 4, 6)
    assert rgb.dtype == np.float32
    assert [rgb[0, channel, 0, 0] for channel in range(3)] == [2.0, 0.0, 0.0]
    assert [bgr[0, channel, 0, 0] for channel in range(3)] == [0.0, 0.0, 100.0]


def test_channels_last_layout() -> None:
    assert Preprocessing(mean=(0, 0, 0), layout="NHWC")([RED]).shape == (1, 4, 6, 3)


@pytest.mark.parametrize(
    ("preprocess", "images", "message"),
    [
        (Preprocessing(mean=(0, 0, 0)), [], "no image"),
        (Preprocessing(mean=(0, 0, 0)), [RED, RED[:2]], "one size"),
        (Preprocessing(mean=(0, 0, 0)), [RED.astype(np.float32)], "expected uint8 images"),
        (Preprocessing(mean=(0, 0, 0), size=(224, 224)), [RED], "expected images of 224x224, got 4x6"),
        (Preprocessing(mean=(0, 0, 0), multiple_of=32), [RED], "multiples of 32, got 4x6"),
    ],
)
def test_what_does_not_fit_is_refused(preprocess: Preprocessing, images: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess(images)
