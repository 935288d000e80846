"""Runs the original and the compiled model side by side and measures errors, remaining ratios and times."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.errors import VerificationError
from reuse_compiler.runtime import remaining_ratios, reset_statistics
from reuse_compiler.verification.compare import Difference, largest_error
from reuse_compiler.verification.data import Source
from reuse_compiler.verification.runnable import exposed
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, Measuring, run_session, runner
from reuse_compiler.verification.timing import Samples, Turns, is_slower

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

MIN_PAIRS = 5
"""Least number of timed runs of each model; the reported time is their median."""
MAX_PAIRS = 50
EXTRA_SECONDS = 0.5
"""Fast models are run up to MAX_PAIRS times as long as this lasts."""
MAX_LAYER_FEEDS = 8
"""Layer outputs are compared on so many feeds at most: they cost as much memory and time as all else."""
LAYER_BYTES = 256 * 2**20
"""Layer outputs of one model that are held in memory at a time, unless a single one is larger."""
UNKNOWN_BYTES = 32 * 2**20
"""Assumed size of a layer output of unknown shape."""


@dataclass(frozen=True)
class LayerTensor:
    """The result of a layer: its tensor in the original; bytes of one run, None if unknown."""

    layer: str
    tensor: str
    size: int | None
    pixel_major: str | None = None
    """The tensor of the compiled model that holds it in the order NHWC; None: one of the same name and order."""

    @property
    def compiled(self) -> str:
        """The tensor's name in the compiled model."""
        return self.pixel_major or self.tensor


@dataclass
class Verification:
    """What was measured; times are medians in milliseconds of one run."""

    verified_on: str
    max_abs_error: float | None = None
    """The largest of the outputs; None if no output holds floating point numbers."""
    rel_error: float | None = None
    """Relative L2 error, the largest of the outputs; None likewise."""
    dense_ms: float = 0.0
    reuse_ms: float = 0.0
    slower: bool = False
    """Whether the compiled model took longer by more than the noise."""
    faster: bool = False
    """Whether the original did."""
    repeating_ms: tuple[float, float] | None = None
    """Times of both on another input, of which most repeats, where that was measured, too."""
    layer_errors: dict[str, float] = field(default_factory=dict)
    remaining_ratios: dict[str, float] = field(default_factory=dict)
    """r_c by the name of the node that clusters."""


@dataclass(frozen=True)
class Verifier:
    """The two models and the circumstances under which they are run."""

    original: onnx.ModelProto
    compiled: onnx.ModelProto
    source: Source
    measuring: Measuring
    alone: onnx.ModelProto | None = None
    """The compiled model with its layers in the main graph, where the results of layers are compared; None: it is that
    itself."""

    def run(self, layers: Sequence[LayerTensor]) -> Verification:
        """Measures everything; raises VerificationError if a model does not run or the compiled one breaks."""
        result = Verification(verified_on=self.source.description)
        self._compare(result)
        for chunk in in_chunks(layers):
            self._compare_layers(chunk, result)
        return result

    def _compare(self, result: Verification) -> None:
        """Compares all outputs on all feeds and times both models, each going first in turn."""
        dense, reuse = self._open(self.original, [], ORIGINAL), self._open(self.compiled, [], COMPILED)
        outputs = comparable_outputs(dense)
        names = list(outputs)
        differences = {name: Difference() for name in names}
        turns = Turns({ORIGINAL: runner(dense, names, ORIGINAL), COMPILED: runner(reuse, names, COMPILED)})
        what, total = "comparing both models", max(len(self.source), MIN_PAIRS)
        # Warm-up: memory, weights, caches. Not with the first one, as the next run of a stream would change nothing.
        turns.round(self.source[len(self.source) - 1])
        turns.forget_times()
        reset_statistics(reuse)
        for index, feed in enumerate(self.source):
            self.measuring.progress(what, index, total)
            outputs_of = turns.round(feed)
            for name, expected, actual in zip(names, outputs_of[ORIGINAL], outputs_of[COMPILED], strict=False):
                _add(differences, name, expected, actual)
        result.remaining_ratios = remaining_ratios(reuse)
        while _wants_more(turns.samples):
            done = len(turns.samples[ORIGINAL])
            self.measuring.progress(what, min(done, total), total)
            turns.round(self.source[done % len(self.source)])
        self.measuring.progress(what, total, total)
        result.dense_ms, result.reuse_ms = turns.median_ms(ORIGINAL), turns.median_ms(COMPILED)
        result.slower = is_slower(turns.samples, COMPILED, ORIGINAL)
        result.faster = is_slower(turns.samples, ORIGINAL, COMPILED)
        _summarize(differences, outputs, result)

    def _compare_layers(self, layers: Sequence[LayerTensor], result: Verification) -> None:
        """Compares the outputs of some layers on the first feeds."""
        # Tensors that several layers name are compared once.
        tensors = {item.tensor: item for item in layers}
        names, compiled = list(tensors), [item.compiled for item in tensors.values()]
        dense = self._open(self.original, names, ORIGINAL)
        reuse = self._open(self.alone or self.compiled, compiled, COMPILED)
        differences = {name: Difference() for name in names}
        count = min(len(self.source), MAX_LAYER_FEEDS)
        what = f"measuring {layers[0].layer}" + (f" to {layers[-1].layer}" if len(layers) > 1 else "")
        for index, feed in enumerate(islice(self.source, count)):
            self.measuring.progress(what, index, count)
            results = run_session(dense, names, feed, ORIGINAL), run_session(reuse, compiled, feed, COMPILED)
            for (name, item), expected, actual in zip(tensors.items(), *results, strict=True):
                in_order = np.moveaxis(actual, -1, 1) if item.pixel_major else actual
                _add(differences, name, expected, in_order)
        self.measuring.progress(what, count, count)
        result.remaining_ratios = remaining_ratios(reuse) | result.remaining_ratios
        result.layer_errors |= {
            item.layer: differences[item.tensor].rel_error for item in layers if item.tensor in differences
        }

    def _open(self, model: onnx.ModelProto, tensors: Sequence[str], label: str) -> onnxruntime.InferenceSession:
        with exposed(model, tensors):
            return self.measuring.open(model, label)


def _wants_more(samples: Samples) -> bool:
    pairs, seconds = len(samples[ORIGINAL]), 1e-3 * sum(map(sum, samples.values()))
    return pairs < MIN_PAIRS or (pairs < MAX_PAIRS and seconds < EXTRA_SECONDS)


def in_chunks(layers: Sequence[LayerTensor]) -> Iterator[list[LayerTensor]]:
    """Cuts the layers into runs whose outputs fit into LAYER_BYTES together."""
    chunk: list[LayerTensor] = []
    used = 0
    for item in layers:
        size = UNKNOWN_BYTES if item.size is None else item.size
        if chunk and used + size > LAYER_BYTES:
            yield chunk
            chunk, used = [], 0
        chunk.append(item)
        used += size
    if chunk:
        yield chunk


def comparable_outputs(dense: onnxruntime.InferenceSession) -> dict[str, bool]:
    """Names of the outputs that are tensors of numbers, and whether of floating point; warns of the others."""
    outputs = {}
    for output in dense.get_outputs():
        if output.type.startswith("tensor(") and output.type != "tensor(string)":
            outputs[output.name] = "float" in output.type or "double" in output.type
        else:
            logger.warning("the output '%s' is a %s and was not compared", output.name, output.type)
    return outputs


def _add(differences: dict[str, Difference], name: str, expected: NDArray[Any], actual: NDArray[Any]) -> None:
    """Adds a pair to the output's difference; drops the output where its shape depends on the values."""
    if name not in differences:
        return
    if expected.shape != actual.shape:
        logger.warning(
            "the output '%s' has shape %s in the original and %s in the compiled model and was not compared",
            name,
            list(expected.shape),
            list(actual.shape),
        )
        del differences[name]
        return
    differences[name].add(expected, actual)


def _summarize(differences: Mapping[str, Difference], is_float: Mapping[str, bool], result: Verification) -> None:
    """Turns the outputs' differences into the model's; raises VerificationError for numbers that became NaN or Inf."""
    for name, difference in differences.items():
        if difference.broken:
            raise VerificationError(
                f"the output '{name}' of the compiled model has {difference.broken} values that are not finite where "
                "the original's are; give --exclude for the layers that cause it"
            )
        if difference.undefined:
            logger.warning(
                "%d values of the output '%s' are NaN or Inf in the original too", difference.undefined, name
            )
        if difference.differing and not is_float[name]:
            logger.warning("%d of %d values of the output '%s' differ", difference.differing, difference.elements, name)
    floats = {name: difference for name, difference in differences.items() if is_float[name]}
    if floats:
        result.max_abs_error = max(difference.max_abs_error for difference in floats.values())
        result.rel_error = largest_error(floats)
