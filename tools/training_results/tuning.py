"""`tune` on networks at settings where reconstruction alone is not enough: as is, reconstructed, tuned."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

import reuse_compiler
from models import builders, datasets, packaged, preprocessing
from models.train import CROP_PADDING, augment
from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.compiler import compile_file
from reuse_compiler.options import CompileOptions
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reuse.config import make_settings
from reuse_compiler.training.conversion import convert
from reuse_compiler.training.export import export_onnx
from reuse_compiler.training.function import Gradient
from reuse_compiler.training.onnx_module import OnnxModule
from reuse_compiler.training.tuning import Batch, TuneOptions, tune
from tools.training_results.results import Tuning


@dataclass(frozen=True)
class Task:
    """A network with its data and settings."""

    model: Callable[[], onnx.ModelProto]
    samples: Callable[[], list[Batch]]
    held_out: Callable[[], tuple[list[Tensor], Tensor | None]]
    """Batches, and labels if there are any."""
    metric: str
    dense: frozenset[str]
    """Layers that stay as they are."""
    length: int
    hashes: int
    options: TuneOptions
    static: bool = False
    """Whether centroids are fixed, in int8 tables; then the compiled result is measured, too."""


def _cifar(name: str, count: int, start: int = 0) -> tuple[list[Tensor], Tensor]:
    photos, labels = datasets.images(name, count, start)
    return list(torch.from_numpy(preprocessing.CIFAR10(photos)).split(100)), torch.from_numpy(labels)


def _labelled(name: str, size: int) -> list[Batch]:
    """All images of an archive as PyTorch's convolutions of bfloat16 like them best, in batches of `size`."""
    photos, labels = datasets.images(name)
    images = torch.from_numpy(preprocessing.CIFAR10(photos)).to(memory_format=torch.channels_last)
    return list(zip(images.split(size), torch.from_numpy(labels).split(size), strict=True))


def _crops(seed: int) -> Callable[[Tensor], Tensor]:
    """Returns the augmentation of `models.train`."""
    generator = torch.Generator().manual_seed(seed)
    return lambda x: augment(functional.pad(x, [CROP_PADDING] * 4, mode="reflect"), generator)


def _photos(count: int, start: int) -> list[Tensor]:
    photos, _ = datasets.images("imagenet_sample", count, start)
    crops = datasets.centre_crop(photos, 128)
    return [torch.from_numpy(preprocessing.HED([crop])) for crop in crops]


TASKS = {
    "cifar_vgg": Task(
        model=lambda: builders.trained("cifar_vgg"),
        samples=lambda: [*_cifar("cifar10_train", 4000)[0]],
        held_out=lambda: _cifar("cifar10_test", 1000),
        metric="top-1 on 1,000 test images",
        dense=frozenset({"conv1_1"}),
        length=16,
        hashes=8,
        options=TuneOptions(output="kl"),
    ),
    "cifar_vgg_static": Task(
        model=lambda: builders.trained("cifar_vgg"),
        samples=lambda: _labelled("cifar10_train", 125),
        held_out=lambda: _cifar("cifar10_test", 5000),
        metric="top-1 on 5,000 test images",
        dense=frozenset({"conv1_1"}),
        length=8,
        hashes=8,
        options=TuneOptions(
            steps=4600,
            relative_rate=0.015,
            warm_up=100,
            features=0.0,
            labels=1.0,
            commitment=1.0,
            output="kl",
            augment=_crops(0),
            precision="bfloat16",
            normalise=True,
            refit_every=200,
            reconstruction_batches=32,
            held_out=16,
        ),
        static=True,
    ),
    "hed": Task(
        model=lambda: onnx.load(packaged.load("hed")),
        samples=lambda: [*_photos(40, 0)],
        held_out=lambda: (_photos(12, 300), None),
        metric="PSNR (dB) of the edges of 12 photos, 128x128",
        dense=frozenset({"conv1_1", "dsn1", "dsn2", "dsn3", "dsn4", "dsn5"}),
        length=8,
        hashes=11,
        options=TuneOptions(steps=100, rate=1e-5),
    ),
}


def measure_tuning(
    command: str, name: str, threads: int, steps: int | None, models: Path | None, progress: ProgressCallback
) -> Tuning:
    """Tunes a network; static ones are exported and compiled, and stay in the folder `models`, if there is one.

    Raises what reading its weights and data raises.
    """
    torch.set_num_threads(threads)
    task, started = TASKS[name], time.monotonic()
    options = task.options if steps is None else replace(task.options, steps=steps)
    teacher, batches = OnnxModule(task.model()).eval(), task.samples()
    held_out, labels = task.held_out()
    layers = [module for module in teacher.names.values() if module not in task.dense and _wide(teacher, module)]
    kind: dict[str, Any] = {"scope": "static", "table": "int8"} if task.static else {}
    settings = make_settings(family="learned", layout="channel", L=task.length, H=task.hashes, **kind)
    gradient: Gradient = "straight_through" if task.static else "averaged"
    found, student = {}, copy.deepcopy(teacher)
    example = batches[0] if isinstance(batches[0], Tensor) else batches[0][0]
    convert(student, example, dict.fromkeys(layers, settings), gradient=gradient)

    def watch(stage: str) -> None:
        found[stage] = score(student, teacher, held_out, labels)

    report = tune(student, batches, teacher, options, progress, watch)
    if task.static:
        found["compiled"] = score(Compiled(student, example, models), teacher, held_out, labels)
    return Tuning(
        command=command,
        machine=describe_machine(),
        network=name,
        setting=f"{len(layers)} of {len(teacher.names)} convolutions, learned, L={task.length}, H={task.hashes}"
        + (", static, int8 tables" if task.static else ""),
        metric=task.metric,
        original=score(teacher, teacher, held_out, labels),
        losses=(report.loss_as_is, report.loss_reconstructed, report.loss_tuned),
        seconds=time.monotonic() - started,
        **found,
    )


class Compiled(nn.Module):
    """A tuned model exported, compiled, and run in onnxruntime."""

    def __init__(self, model: nn.Module, example: Tensor, models: Path | None) -> None:
        super().__init__()
        with tempfile.TemporaryDirectory() as temporary:
            folder = models or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            plain, compiled = folder / "net.onnx", folder / "net.reuse.onnx"
            config = export_onnx(model, plain, example, overwrite=True)
            options = CompileOptions(config=config, shapes={"x": example.shape})
            compile_file(plain, compiled, options, overwrite=True, verify=False)
            self._session = reuse_compiler.session(compiled)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the model's only output."""
        return torch.from_numpy(self._session.run(None, {"x": x.numpy()})[0])


def score(model: nn.Module, teacher: nn.Module, batches: list[Tensor], labels: Tensor | None) -> float:
    """Returns top-1 if there are labels, else the PSNR of the last output against the teacher's, peak 1."""
    with torch.no_grad():
        if labels is not None:
            return float((torch.cat([model(batch) for batch in batches]).argmax(1) == labels).float().mean())
        errors = [float((_last(model(batch)) - _last(teacher(batch))).square().mean()) for batch in batches]
    error = float(np.mean(errors))
    return 10.0 * float(np.log10(1.0 / error)) if error > 0.0 else float("inf")


def _last(output: Tensor | list[Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else output[-1]


def _wide(model: nn.Module, name: str) -> bool:
    """Whether a layer is wide enough for the settings to have a meaning."""
    layer = model.get_submodule(name)
    return isinstance(layer, nn.Conv2d) and layer.in_channels >= 32 and layer.out_channels >= 32
