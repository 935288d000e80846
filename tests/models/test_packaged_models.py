"""The packaged networks: they load, take what the registry says, and recognise photos."""

import string
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from models import datasets, packaged

pytestmark = pytest.mark.network

CHARACTERS = f"0123456789{string.punctuation} €{string.ascii_uppercase}{string.ascii_lowercase}"
"""Of EasyOCR's recogniser of English text."""
DOGS, COCO_DOG = 330, 16
"""A photo of dogs in `imagenet_sample`, and their class."""
OUTPUT_SHAPES = {
    "squeezenet": (2, 1000),
    "efficientnet_lite0": (2, 1000),
    "hed": (2, 1, 224, 224),
    "craft": (2, 2, 112, 112),
    "easyocr_english": (2, 55, 97),
    "yolov3_tiny": (2, 80, 2535),
    "waifu2x_photo": (2, 3, 420, 420),
    "ppocr_detection": (2, 1, 224, 224),
    "open_nsfw": (2, 2),
}


@pytest.mark.parametrize("name", packaged.REGISTRY)
def test_model_takes_what_the_registry_says(
    name: str, packaged_model: Callable[[str], Path], run_model: Callable[..., Any]
) -> None:
    entry, path = packaged.REGISTRY[name], packaged_model(name)
    graph = onnx.load(path).graph
    initializers = {tensor.name for tensor in graph.initializer}
    assert [value.name for value in graph.input if value.name not in initializers] == [entry.input_name]
    assert [value.name for value in graph.output] == list(entry.output_names)
    size = entry.preprocessing.size or (224, 224)
    photos = list(np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8))
    output = run_model(path, entry.preprocessing(photos))
    assert output.shape == OUTPUT_SHAPES[name]
    assert np.isfinite(output).all()


def test_the_recogniser_reads_a_rendered_line(
    packaged_model: Callable[[str], Path], run_model: Callable[..., Any]
) -> None:
    line = Image.new("RGB", (640, 64), "white")
    ImageDraw.Draw(line).text((20, 8), "Convolutions of 1998, reused", font=ImageFont.load_default(40), fill="black")
    x = packaged.REGISTRY["easyocr_english"].preprocessing([np.asarray(line)])
    (best,) = run_model(packaged_model("easyocr_english"), x).argmax(2)
    # Of neighbours that are the same all but one go, and then what stands for no character.
    read = "".join(CHARACTERS[now - 1] for before, now in pairwise([0, *best]) if now not in (0, before))
    assert read == "Convolutions of 1998, reused"


def test_the_detector_finds_what_a_photo_shows(
    packaged_model: Callable[[str], Path], read_images: Callable[..., Any]
) -> None:
    (photo,), _ = read_images("imagenet_sample", 1, start=DOGS)
    x = packaged.REGISTRY["yolov3_tiny"].preprocessing([np.asarray(Image.fromarray(photo).resize((416, 416)))])
    session = onnxruntime.InferenceSession(packaged_model("yolov3_tiny"))
    scores, boxes = session.run(["scores", "boxes"], {"x": x})
    found, place = np.unravel_index(scores[0].argmax(), scores[0].shape)
    assert found == COCO_DOG and scores.max() > 0.5
    assert (boxes[0, :, place] > 0.0).all() and (boxes[0, :, place] < 1.0).all()


def test_doubled_photos_are_nearer_than_interpolated_ones(
    packaged_model: Callable[[str], Path], read_images: Callable[..., Any], run_model: Callable[..., Any]
) -> None:
    photos = read_images("imagenet_sample", 4)[0]
    halved = [Image.fromarray(photo).resize((128, 128), Image.Resampling.BOX) for photo in photos]
    x = packaged.REGISTRY["waifu2x_photo"].preprocessing([np.asarray(image) for image in halved])
    doubled = 255.0 * run_model(packaged_model("waifu2x_photo"), x).transpose(0, 2, 3, 1)
    for photo, image, found in zip(photos, halved, doubled, strict=True):
        wanted, interpolated = (
            np.asarray(each, np.float32)[14:-14, 14:-14]
            for each in (photo, image.resize((256, 256), Image.Resampling.BICUBIC))
        )
        assert np.square(found - wanted).mean() < 0.9 * np.square(interpolated - wanted).mean()


@pytest.mark.parametrize(("name", "top1"), [("squeezenet", 0.5), ("efficientnet_lite0", 0.7)])
def test_classifiers_recognise_photos(
    name: str,
    top1: float,
    packaged_model: Callable[[str], Path],
    read_images: Callable[..., Any],
    run_model: Callable[..., Any],
) -> None:
    photos, labels = read_images("imagenet_sample", 50, start=50)
    x = packaged.REGISTRY[name].preprocessing(datasets.centre_crop(photos, 224))
    assert np.mean(run_model(packaged_model(name), x).argmax(1) == labels) > top1
