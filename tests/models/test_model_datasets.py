"""Reading the sample data; the archives of these tests are made here, so they need no data."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import datasets


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with three uniform grey 8x8 images of brightness 0, 100, 200 and labels 5, 6, 7."""
    files = []
    for brightness in (0, 100, 200):
        buffer = io.BytesIO()
        Image.new("L", (8, 8), brightness).save(buffer, "JPEG")
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "cifar10_test.npz", jpeg=np.concatenate(files), offsets=offsets, labels=np.array([5, 6, 7]))
    monkeypatch.setenv("REUSE_DATA", str(tmp_path))
    return tmp_path


def test_images_are_rgb_with_their_labels(sample: Path) -> None:
    photos, labels = datasets.images("cifar10_test", 2, start=1)
    assert [photo.shape for photo in photos] == [(8, 8, 3)] * 2
    assert [int(photo[4, 4, 2]) for photo in photos] == pytest.approx([100, 200], abs=2)
    assert labels.tolist() == [6, 7]
    assert len(datasets.images("cifar10_test")[0]) == 3


def test_errors_say_what_is_there(sample: Path) -> None:
    with pytest.raises(ValueError, match=r"images 2 to 4 asked of cifar10_test\.npz, which has 3"):
        datasets.images("cifar10_test", 2, start=2)
    with pytest.raises(ValueError, match="no data set 'mnist'; known: cifar10_train"):
        datasets.images("mnist")
    with pytest.raises(datasets.DataMissingError, match="REUSE_DATA"):
        datasets.images("imagenet_sample")


def test_centre_crop() -> None:
    photo = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    (cropped,) = datasets.centre_crop([photo], 4)
    np.testing.assert_array_equal(cropped, photo[1:5, 2:6])
    with pytest.raises(ValueError, match="cannot crop 7x7 out of 6x8"):
        datasets.centre_crop([photo], 7)


def test_imagenet_sample_is_as_described(read_images: Callable[..., Any]) -> None:
    photos, labels = read_images("imagenet_sample", 2)
    assert [photo.shape for photo in photos] == [(256, 256, 3)] * 2
    assert labels.dtype == np.int64
