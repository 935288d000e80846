"""onnxruntime's own way to make a convolution faster: the statically quantised layer, in its fastest form."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.benchmark.layer import INPUT
from reuse_compiler.benchmark.profile import profile
from reuse_compiler.benchmark.sessions import BoundRun, open_session
from reuse_compiler.benchmark.timing import interleave

FORMS = (("QDQ", "QUInt8"), ("QOperator", "QUInt8"), ("QDQ", "QInt8"), ("QOperator", "QInt8"))
"""Format and type of the activations; weights are signed, one scale per output channel."""
TRIALS = 3
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose")


@dataclass(frozen=True)
class Quantised:
    """A quantised layer, ready to run."""

    form: str
    model: onnx.ModelProto
    run: BoundRun


def fastest_quantised(
    dense: onnx.ModelProto, x: NDArray[np.float32], shape: tuple[int, ...], threads: int
) -> Quantised:
    """Quantises the layer in every form, calibrated on `x`, and returns the one that runs fastest here."""
    candidates = {}
    for form, activations in FORMS:
        model = quantise(dense, x, form, activations)
        run = BoundRun(open_session(model, threads, "the quantised layer", plain=True), x, shape)
        run()
        candidates[f"{form}, activations {activations[1:]}, weights Int8 per channel"] = (model, run)
    samples = interleave({form: run for form, (_, run) in candidates.items()}, TRIALS)
    best = min(samples, key=lambda form: statistics.median(samples[form]))
    return Quantised(best, *candidates[best])


def convolution_ms(quantised: Quantised, x: NDArray[np.float32], threads: int, runs: int) -> float:
    """Returns the time of the nodes that compute, without those that convert from and to float."""
    nodes = profile(
        quantised.model,
        lambda prefix: open_session(quantised.model, threads, "the quantised layer", profile=prefix, plain=True),
        lambda opened: opened.run(None, {INPUT: x}),
        runs,
    )
    return sum(node.ms for node in nodes if node.op not in CONVERSIONS)


def quantise(dense: onnx.ModelProto, x: NDArray[np.float32], form: str, activations: str) -> onnx.ModelProto:
    """Returns the model with int8 weights per channel and activations of the type `activations`."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Gives the one input once."""

        def __init__(self) -> None:
            self._feeds = iter([{INPUT: x}])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    with TemporaryDirectory(prefix="reuse-int8-") as folder, _without_advice():
        source, target = Path(folder) / "dense.onnx", Path(folder) / "int8.onnx"
        onnx.save(dense, source)
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat[form],
            activation_type=quantization.QuantType[activations],
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        return onnx.load(target)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps the quantizer's advice on pre-processing, which a single layer does not need, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
