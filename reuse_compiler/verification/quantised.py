"""onnxruntime's own way to make convolutions faster: the statically quantised layer or model, in its fastest form."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Generic, TypeVar

import onnx
from onnx import version_converter

from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.sessions import open_session
from reuse_compiler.verification.timing import interleave

if TYPE_CHECKING:
    import onnxruntime

FORMS = (("QDQ", "QUInt8"), ("QOperator", "QUInt8"), ("QDQ", "QInt8"), ("QOperator", "QInt8"))
"""Format and type of the activations; weights are signed, one scale per output channel."""
TRIALS = 3
SCALES_PER_CHANNEL_SINCE_OPSET = 13
"""From this opset on, DequantizeLinear takes a scale for each channel."""

Run = TypeVar("Run", bound=Callable[[], object])


@dataclass(frozen=True)
class Quantised(Generic[Run]):
    """A quantised model, ready to run."""

    form: str
    model: onnx.ModelProto
    run: Run
    """Runs it once, as it was timed."""
    forms_ms: Mapping[str, float]
    """Median times of all forms that were tried."""


def fastest_quantised(
    dense: onnx.ModelProto,
    feeds: Iterable[Feed],
    bind: Callable[[onnxruntime.InferenceSession], Run],
    threads: int,
    progress: ProgressCallback = silent,
) -> Quantised[Run]:
    """Quantises the model in every form, calibrated on `feeds`, and returns the one that runs fastest here.

    `feeds` are gone through once for each form. `bind` makes what is timed of a session.
    """
    candidates = {}
    for index, (form, activations) in enumerate(FORMS):
        progress("quantising to int8", index, len(FORMS))
        model = quantise(dense, feeds, form, activations)
        run = bind(open_session(model, threads, "the quantised model", plain=True))
        run()
        candidates[f"{form}, activations {activations[1:]}, weights Int8 per channel"] = (model, run)
    samples = interleave({form: run for form, (_, run) in candidates.items()}, TRIALS)
    medians = {form: statistics.median(times) for form, times in samples.items()}
    best = min(medians, key=medians.__getitem__)
    return Quantised(best, *candidates[best], medians)


def quantise(dense: onnx.ModelProto, feeds: Iterable[Feed], form: str, activations: str) -> onnx.ModelProto:
    """Returns the model with int8 weights per channel and activations of the type `activations`.

    The activations' ranges are the least and the largest value of every tensor on `feeds`.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Gives every feed once."""

        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    with TemporaryDirectory(prefix="reuse-int8-") as folder, _without_advice():
        source, target = Path(folder) / "dense.onnx", Path(folder) / "int8.onnx"
        onnx.save(_with_scales_per_channel(dense), source)
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat[form],
            activation_type=quantization.QuantType[activations],
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        return onnx.load(target)


def _with_scales_per_channel(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model itself, or what it is in the opset that int8 weights need; the quantizer does not see to it."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    if versions.get("", SCALES_PER_CHANNEL_SINCE_OPSET) >= SCALES_PER_CHANNEL_SINCE_OPSET:
        return model
    return version_converter.convert_version(model, SCALES_PER_CHANNEL_SINCE_OPSET)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps the quantizer's advice on pre-processing, which these models do not need, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
