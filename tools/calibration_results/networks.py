"""What is measured: the networks, the data each is calibrated and judged on, its accuracy budget, what to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx

from models import builders, packaged, preprocessing
from models.conversion import YOLO_SIZE
from models.datasets import DataMissingError
from models.preprocessing import Preprocessing
from reuse_compiler.calibration.options import Objective
from tools.calibration_results.pictures import ReadPictures, frames, letterboxed_photos, pages, photos, text_lines


@dataclass(frozen=True)
class Goal:
    """What a network should reach on its held-out data; None: nothing is asked."""

    largest_drop: float | None = None
    least_value: float | None = None
    """Of the metric."""
    least_speedup: float | None = None
    dense: frozenset[str] | None = None
    """The only layers that may be left as they are."""


@dataclass(frozen=True)
class Network:
    """A network with its data and its accuracy budget."""

    name: str
    title: str
    model: Callable[[], onnx.ModelProto]
    preprocessing: Preprocessing
    calibration: ReadPictures
    held_out: ReadPictures
    goal: Goal
    metric: str
    max_drop: float | None = None
    at_least: float | None = None
    exclude: str | None = None
    batch: int = 1
    objective: Objective = "latency"
    """What is chosen by; `operations` gives the same layers on every machine."""


CIFAR_BATCH = 64
CIFAR_CALIBRATION = photos("training images of CIFAR-10", "cifar10_train", 12_800)
CIFAR_TEST = photos("test images of CIFAR-10", "cifar10_test", 5000)
IMAGENET_CALIBRATION = photos(
    "photos of imagenet_sample, the first half, centre 224x224", "imagenet_sample", 300, 0, 224
)
IMAGENET_TEST = photos("photos of imagenet_sample, the second half, centre 224x224", "imagenet_sample", 300, 300, 224)
WHOLE_PHOTOS = "photos of imagenet_sample, 256x256"
CENTRES = "photos of imagenet_sample, centre 224x224"
CALIBRATION_DOCUMENTS = "docs/operators.md", "docs/performance.md", "docs/configuration.md", "docs/calibration.md"
HELD_OUT_DOCUMENTS = "README.md", "CONTRIBUTING.md", "models/README.md"
SMALL_CENTRES = "photos of imagenet_sample, centre 128x128"
LINE = 64, 320
"""Height and width of a line of text."""


def _trained(name: str) -> onnx.ModelProto:
    """One of our own networks; raises DataMissingError if its weights are not there yet."""
    path = builders.weights_path(name)
    if not path.is_file():
        raise DataMissingError(f"{name} has no weights at {path}: train it with python -m models.train {name}")
    return builders.trained(name)


def _packaged(name: str) -> onnx.ModelProto:
    return onnx.load(packaged.load(name))


def _classifier(name: str, title: str) -> Network:
    """A network for ImageNet."""
    return Network(
        name=name,
        title=title,
        model=partial(_packaged, name),
        preprocessing=packaged.REGISTRY[name].preprocessing,
        calibration=IMAGENET_CALIBRATION,
        held_out=IMAGENET_TEST,
        goal=Goal(largest_drop=0.005),
        metric="top1",
        max_drop=0.005,
    )


def _faithful(
    package: str,
    title: str,
    calibration: ReadPictures,
    held_out: ReadPictures,
    *,
    metric: str,
    at_least: float,
    least_speedup: float | None = None,
    name: str | None = None,
) -> Network:
    """A packaged network whose outputs are to stay near the original's, as `metric` says."""
    return Network(
        name=name or package,
        title=title,
        model=partial(_packaged, package),
        preprocessing=packaged.REGISTRY[package].preprocessing,
        calibration=calibration,
        held_out=held_out,
        goal=Goal(least_value=at_least, least_speedup=least_speedup),
        metric=metric,
        at_least=at_least,
    )


def _cifar(
    name: str,
    title: str,
    largest_drop: float,
    least_speedup: float | None = None,
    max_drop: float = 0.005,
    dense: str | None = None,
) -> Network:
    """One of our own networks for CIFAR-10; the layer `dense` stays as it is."""
    return Network(
        name=name,
        title=title,
        model=partial(_trained, name),
        preprocessing=preprocessing.CIFAR10,
        calibration=CIFAR_CALIBRATION,
        held_out=CIFAR_TEST,
        goal=Goal(largest_drop=largest_drop, least_speedup=least_speedup, dense=frozenset({dense}) if dense else None),
        metric="top1",
        max_drop=max_drop,
        exclude=f"^{dense}$" if dense else None,
        batch=CIFAR_BATCH,
    )


_NETWORKS = (
    # On the images that it was trained on a network is surer than on others, so that drops there say less.
    _cifar("cifarnet", "CifarNet", 0.0005, 1.77, max_drop=0.0032),
    _cifar("cifar_vgg", "VGG for CIFAR-10", 0.005, dense="conv1_1"),
    _cifar("alexnet", "AlexNet for CIFAR-10", 0.0005, 2.0),
    _cifar("vgg19", "VGG-19 for CIFAR-10", 0.0005, 1.89),
    _classifier("squeezenet", "SqueezeNet"),
    _classifier("efficientnet_lite0", "EfficientNet-lite0"),
    _faithful(
        "craft",
        "CRAFT on rendered pages",
        pages(CALIBRATION_DOCUMENTS),
        pages(HELD_OUT_DOCUMENTS),
        metric="iou:0.4,0",  # channel 0 is text, channel 1 what links characters
        at_least=0.95,
        least_speedup=1.8,
    ),
    _faithful(
        "hed",
        "HED on photos",
        photos(WHOLE_PHOTOS, "imagenet_sample", 24, 0, labelled=False),
        photos(WHOLE_PHOTOS, "imagenet_sample", 12, 300, labelled=False),
        metric="psnr",
        at_least=35.0,
        name="hed_photos",
    ),
    _faithful(
        "hed",
        "HED on frames of a film",
        frames(first=0, count=24, distance=20),
        frames(first=550, count=12, distance=20),
        metric="psnr",
        at_least=35.0,
        name="hed_frames",
    ),
    _faithful(
        "open_nsfw",
        "OpenNSFW (ResNet-50)",
        photos(CENTRES, "imagenet_sample", 150, 0, 224, labelled=False),
        photos(CENTRES, "imagenet_sample", 150, 300, 224, labelled=False),
        metric="psnr",
        at_least=40.0,  # a hundredth of the two probabilities; saving the photos as JPEG of quality 90 does as much
    ),
    _faithful(
        "easyocr_english",
        "EasyOCR on rendered lines",
        text_lines(CALIBRATION_DOCUMENTS, 160, LINE),
        text_lines(HELD_OUT_DOCUMENTS, 90, LINE),
        metric="iou:0.5",  # what is recognised at each place: the characters that are likelier than all others together
        at_least=0.98,
    ),
    _faithful(
        "yolov3_tiny",
        "YOLOv3-tiny on 16:9 photos",
        letterboxed_photos(0, 4, YOLO_SIZE),
        letterboxed_photos(2, 4, YOLO_SIZE),
        metric="cosine:output=scores",
        at_least=0.97,  # what is left where the photos are saved as JPEG of quality 75 before
    ),
    _faithful(
        "waifu2x_photo",
        "waifu2x doubling photos",
        photos(SMALL_CENTRES, "imagenet_sample", 24, 0, 128, labelled=False),
        photos(SMALL_CENTRES, "imagenet_sample", 24, 300, 128, labelled=False),
        metric="psnr",
        at_least=40.0,  # so much error takes real photos 1 dB away; bicubic interpolation is 1.7 dB further
    ),
)
NETWORKS = {network.name: network for network in _NETWORKS}
