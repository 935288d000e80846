"""Photos as sample data: the arithmetic of preprocessing, batches, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reuse_compiler.errors import DataError
from reuse_compiler.verification.images import FILE_NAME, Preprocessing
from reuse_compiler.verification.inputs import InputSpec
from reuse_compiler.verification.sources import data_files, open_data

Image = pytest.importorskip("PIL.Image", reason="Pillow (extra `images`) is not installed")

FREE = InputSpec("images", np.dtype(np.float32), ("N", 3, "h", "w"))
FIXED = InputSpec("images", np.dtype(np.float32), (1, 3, 6, 8))
COLOURS = [(255, 0, 0), (0, 255, 0), (10, 20, 30)]


def photos(folder: Path, settings: dict[str, Any] | str | None, size: tuple[int, int] = (6, 8)) -> Path:
    """A folder with one plain photo per colour, named in order."""
    for index, colour in enumerate(COLOURS):
        Image.new("RGB", size[::-1], colour).save(folder / f"{index}.png")
    if settings is not None:
        (folder / FILE_NAME).write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return folder


def test_preprocessing_follows_its_formula(tmp_path: Path) -> None:
    settings = {"size": [6, 8], "mean": [1, 2, 3], "std": [2, 4, 5], "scale": 0.5, "order": "BGR"}
    source = open_data(photos(tmp_path, settings), [FREE], {})
    feed = list(source)[2]["images"]
    assert feed.shape == (1, 3, 6, 8) and feed.dtype == np.float32
    blue, green, red = (30 * 0.5 - 1) / 2, (20 * 0.5 - 2) / 4, (10 * 0.5 - 3) / 5
    assert np.allclose(feed[0].reshape(3, -1), np.array([[blue], [green], [red]]))


def test_defaults_are_rgb_from_0_to_1_in_the_models_size(tmp_path: Path) -> None:
    feeds = list(open_data(photos(tmp_path, {}, size=(12, 16)), [FIXED], {}))
    assert len(feeds) == 3
    assert np.allclose(feeds[0]["images"][0].reshape(3, -1).T, [1, 0, 0])


def test_channels_last_and_grey() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert Preprocessing(layout="NHWC", scale=1).apply(pixels).tolist() == pixels.tolist()
    grey = Preprocessing(order="GRAY", scale=1, mean=(1,)).apply(pixels[..., :1])
    assert grey.tolist() == [[[-1, 2], [5, 8]]]


def test_batches_follow_the_shape(tmp_path: Path) -> None:
    source = open_data(photos(tmp_path, {}), [FREE], {"images": (2, 3, 6, 8)})
    assert [feed["images"].shape for feed in source] == [(2, 3, 6, 8)]
    assert source.description == f"1 run of images [2, 3, 6, 8] from the photos in {tmp_path.name}"


def test_any_batch_is_decoded_alone(tmp_path: Path) -> None:
    source = open_data(photos(tmp_path, {"scale": 1}), [FIXED], {})
    (tmp_path / "1.png").unlink()
    assert source[2]["images"][0, :, 0, 0].tolist() == list(COLOURS[2])
    assert (source.names, source.num_samples, source.rows(2)) == (["0.png", "1.png", "2.png"], 3, range(2, 3))
    with pytest.raises(IndexError):
        source[3]


def test_integer_inputs_get_pixels(tmp_path: Path) -> None:
    spec = InputSpec("images", np.dtype(np.uint8), ("N", "h", "w", 3))
    source = open_data(photos(tmp_path, {"size": [6, 8], "scale": 1, "layout": "NHWC"}), [spec], {})
    assert next(iter(source))["images"][0, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{", "is not valid JSON"),
        ({"sizes": [6, 8]}, "sizes: Extra inputs are not permitted"),
        ({"order": "RBG"}, "order: Input should be 'RGB', 'BGR' or 'GRAY'"),
        ({"mean": [1, 2]}, "mean must have 1 or 3 numbers for order RGB"),
        ({"std": [1, 0, 1]}, "std must not be 0"),
        ({"std": [1, "nan", 1]}, "std.1: Input should be a finite number"),
        ('{"scale": 1e999}', "scale: Input should be a finite number"),
        ({"size": [0, 8]}, "size must be"),
        ({"size": [8]}, "size"),
        ({}, 'has no fixed height and width: write "size"'),
        ({"size": [6, 8], "layout": "NHWC"}, r"shape \[1, 6, 8, 3\] does not fit the input 'images'"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any] | str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(photos(tmp_path, settings), [FREE], {})


def test_photos_without_settings_show_an_example(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'holds photos, but .*preprocessing.json is missing.*"mean"'):
        open_data(photos(tmp_path, None), [FREE], {})
    with pytest.raises(DataError, match=r'1.png is a photo, but .*preprocessing.json is missing.*"mean"'):
        open_data(tmp_path / "1.png", [FREE], {})


def test_a_single_photo_is_data_too(tmp_path: Path) -> None:
    source = open_data(photos(tmp_path, {"scale": 1}) / "2.png", [FIXED], {})
    assert [feed["images"][0, :, 0, 0].tolist() for feed in source] == [list(COLOURS[2])]
    assert source.description == "1 run of images [1, 3, 6, 8] from 2.png"
    assert data_files(tmp_path / "2.png") == {tmp_path / "2.png", tmp_path / FILE_NAME}


def test_settings_without_photos(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{}")
    with pytest.raises(DataError, match=r"has a preprocessing\.json but no photo"):
        open_data(tmp_path, [FIXED], {})


def test_fewer_photos_than_a_fixed_batch(tmp_path: Path) -> None:
    spec = InputSpec("images", np.dtype(np.float32), (4, 3, 6, 8))
    with pytest.raises(DataError, match="3 photos are less than one batch"):
        open_data(photos(tmp_path, {}), [spec], {})


def test_a_broken_photo_is_named(tmp_path: Path) -> None:
    photos(tmp_path, {})
    (tmp_path / "1.png").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"1\.png cannot be read as a photo"):
        list(open_data(tmp_path, [FIXED], {}))


def test_several_inputs_need_arrays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the model has 2 inputs: give an \.npz"):
        open_data(photos(tmp_path, {}), [FREE, FIXED], {})


def test_without_pillow_the_extra_is_named(tmp_path: Path) -> None:
    """In a Python in which Pillow cannot be imported; the package itself must not need it."""
    photos(tmp_path, {})
    program = f"""
import sys
sys.modules["PIL"] = None
import numpy, pathlib
from reuse_compiler.errors import DataError
from reuse_compiler.verification.inputs import InputSpec
from reuse_compiler.verification.sources import open_data
try:
    open_data(pathlib.Path({str(tmp_path)!r}), [InputSpec("images", numpy.dtype("float32"), (1, 3, 6, 8))], {{}})
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'reuse-compiler[images]'" in done.stdout
