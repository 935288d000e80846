"""A network trained with strategy 2, exported, compiled, and run in onnxruntime: does it compute what training did?"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

import reuse_compiler
from models import datasets, train
from models.reuse_training import ReuseOptions, ReuseTraining
from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.compiler import compile_file
from reuse_compiler.options import CompileOptions
from reuse_compiler.training.export import export_onnx
from reuse_compiler.training.loss_trend import TrendOptions
from tools.training_results.results import Export

BATCH = 100


def measure_export(command: str, network: str, images: int, epochs: int, threads: int) -> Export:
    """Trains on so many images, without ending dense, and compares on all test images."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    photos, classes = datasets.images("cifar10_train", images)
    test_photos, test_classes = datasets.images("cifar10_test")
    border = ((train.CROP_PADDING,) * 2, (train.CROP_PADDING,) * 2, (0, 0))
    padded = train.normalised([np.pad(photo, border, mode="reflect") for photo in photos])
    labels, test = torch.from_numpy(classes), (train.normalised(test_photos), torch.from_numpy(test_classes))
    net = train.trainable(network, 0.2)
    example = train.normalised(photos[:BATCH])
    options = ReuseOptions(
        "2",
        "learned",
        "^conv[^1]",
        trend=TrendOptions(20, 1, 0.05),
        refit=50,
        gradient="straight_through",
        table="int8",
    )
    reuse = ReuseTraining(net, example, labels[:BATCH], options, 0)
    train.train(net, padded, labels, test, train.Schedule(epochs, BATCH, 0, "float32"), reuse)
    net.eval()
    with torch.no_grad():
        scores = torch.cat([net(batch) for batch in test[0].split(BATCH)]).numpy()
    compiled = _run_compiled(net, example, test[0].numpy())
    truth = test[1].numpy()
    return Export(
        command=command,
        machine=describe_machine(),
        network=network,
        switches=[asdict(switch) for switch in reuse.strategy.switches],
        layers=reuse.result()["layers"],
        pytorch_accuracy=float((scores.argmax(1) == truth).mean()),
        compiled_accuracy=float((compiled.argmax(1) == truth).mean()),
        dense_accuracy=reuse.dense_accuracy(lambda: train.torch_accuracy(net, *test)),
        output_error=float(np.linalg.norm(compiled - scores) / np.linalg.norm(scores)),
    )


def _run_compiled(net: nn.Module, example: torch.Tensor, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder:
        model, result = Path(folder) / "net.onnx", Path(folder) / "net.reuse.onnx"
        config = export_onnx(net, model, example)
        compile_file(model, result, CompileOptions(config=config, shapes={"x": example.shape}), verify=False)
        session = reuse_compiler.session(result)
        batches = np.split(np.ascontiguousarray(images), len(images) // BATCH)
        return np.concatenate([session.run(None, {"x": batch})[0] for batch in batches])
