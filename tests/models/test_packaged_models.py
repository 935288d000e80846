"""The packaged networks: they load, take what the registry says, and recognise photos."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import datasets, packaged

pytestmark = pytest.mark.network

OUTPUT_SHAPES = {
    "squeezenet": (2, 1000),
    "efficientnet_lite0": (2, 1000),
    "hed": (2, 1, 224, 224),
    "craft": (2, 2, 112, 112),
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
    assert [value.name for value in graph.output] == [entry.output_name]
    photos = list(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8))
    output = run_model(path, entry.preprocessing(photos))
    assert output.shape == OUTPUT_SHAPES[name]
    assert np.isfinite(output).all()


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
