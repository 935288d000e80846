"""Tells a defect from rounding where a compilation that loses nothing gives another result than the original.

A relative error says nothing where the true result is nearly zero: a zero-mean filter on a blank page gives rounding
noise, a normalization makes it large, and all that follows differs. So each rewritten part is computed once more as in
the original, on the very input that it had in the compiled model, and its error is compared with the magnitudes that
are added up and may cancel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.errors import VerificationError
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.keep_pixel_major import POOLS
from reuse_compiler.passes.layer import ConvLayer, IntegerLayer, Prepared, QuantisedLayer
from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.pipeline import Lowered
from reuse_compiler.reference.quantised import Integers, Quantised, qlinear_reuse_conv, reuse_conv_integer
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.data import Source
from reuse_compiler.verification.runnable import exposed
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, Measuring, run_session
from reuse_compiler.verification.verify import MAX_LAYER_FEEDS, Verification

LOSSLESS_ERROR = 1e-3
"""Relative error from which on a layer, or the output, is looked at."""
UNIT = 2.0**-24
"""The largest relative error of rounding to float32."""
STEPS = 4
"""Rounding errors of a sum of K products are about sqrt(K) UNIT of the magnitudes; so many times that is allowed."""
SMALLEST = 2.0**-126
"""The smallest normal float32: what lies below may be flushed to zero."""


@dataclass(frozen=True)
class _Part:
    """What the compiled model computes in another way than the original, from one tensor to another."""

    name: str
    source: str
    target: str
    layer: ConvLayer | None
    """None: a pool."""

    @property
    def read(self) -> list[str]:
        """The tensors that the part reads: the source, and operands that only a run knows."""
        return [self.source, *(self.layer.fed.values() if isinstance(self.layer, QuantisedLayer) else [])]


def check_lossless(
    prepared: Prepared, lowered: Lowered, result: Verification, source: Source, measuring: Measuring
) -> None:
    """Raises VerificationError if layers that lose nothing have an error beyond rounding.

    Nothing is run unless an error that verification found is larger than usual.
    """
    if not are_lossless(lowered):
        return
    errors = {f"layer '{layer}'": error for layer, error in result.layer_errors.items()}
    if result.rel_error is not None:
        errors["the model's output"] = result.rel_error
    suspected = {where: error for where, error in errors.items() if error > LOSSLESS_ERROR}
    if not suspected:
        return
    for name, error in _errors_alone(prepared, lowered, source, measuring):
        if error > 1.0:
            much = f"is {error:.2g} times as far from the original's result as rounding can be"
            raise VerificationError(
                f"{name} {'has other values than the original' if math.isinf(error) else much}, though it is "
                "lossless: this is a defect of reuse-compiler, please report it; --exclude leaves a layer as it is"
            )
    names = {layer.name for layer in lowered.layers if layer.decision == "reuse"}
    unseen = sorted(names - {layer.name for layer in prepared.convolutions.values() if layer.in_main})
    if unseen:
        where, error = max(suspected.items(), key=lambda item: item[1])
        raise VerificationError(
            f"{where} has a relative error of {error:.2g}, and layers such as '{unseen[0]}' stand in bodies where they "
            "cannot be looked at, though they are lossless: leave them as they are with --exclude"
        )


def are_lossless(lowered: Lowered) -> bool:
    """Tells whether all layers that use reuse give the exact result: with the model's own weights, without int8."""
    plans = [decision.plan for decision in lowered.decisions if decision.plan is not None]
    return all(
        FAMILIES[plan.settings.family].lossless and plan.settings.table != "int8" and plan.weights is None
        for plan in plans
    )


def _errors_alone(
    prepared: Prepared, lowered: Lowered, source: Source, measuring: Measuring
) -> Iterator[tuple[str, float]]:
    """Yields each part with its error, 1 being the most that rounding explains."""
    pixel_major = lowered.rewritten.pixel_major
    parts = list(_parts(prepared, lowered))
    tensors = {name: pixel_major.get(name, name) for part in parts for name in (*part.read, part.target)}
    inputs = {value.name for value in lowered.rewritten.model.graph.input}
    with exposed(lowered.rewritten.model, dict.fromkeys(name for name in tensors.values() if name not in inputs)):
        compiled = measuring.open(lowered.rewritten.model, COMPILED)
    for part in parts:
        original = _original(part, prepared, measuring)
        named = [*part.read, part.target]
        wanted = [tensors[name] for name in named if name not in inputs]
        squared_magnitude = _magnitudes(part, measuring)
        difference, magnitude = Difference(), 0.0
        for feed in islice(source, MAX_LAYER_FEEDS):
            values = {**feed, **dict(zip(wanted, run_session(compiled, wanted, feed, COMPILED), strict=True))}
            x, *others, actual = (_in_order(values[tensors[name]], name in pixel_major) for name in named)
            expected = original(x, *others)
            difference.add(expected, actual)
            magnitude += squared_magnitude(x, expected)
        yield part.name, _in_units(part, difference, magnitude)


def _in_order(array: NDArray[Any], pixel_major: bool) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if pixel_major else array


def _parts(prepared: Prepared, lowered: Lowered) -> Iterator[_Part]:
    """Yields the rewritten layers and the pools of pixel-major data of the main graph."""
    rewritten = {layer.name for layer in lowered.layers if layer.decision == "reuse"}
    for name, layer in prepared.convolutions.items():
        if name in rewritten and layer.in_main:
            yield _Part(f"layer '{name}'", layer.input, layer.output, layer)
    originals = {renamed: name for name, renamed in lowered.rewritten.pixel_major.items()}
    for node in lowered.rewritten.model.graph.node:
        if node.domain == DOMAIN and node.op_type in POOLS and node.output[0] in originals:
            yield _Part(f"the pool '{node.name}'", originals[node.input[0]], originals[node.output[0]], None)


def _original(part: _Part, prepared: Prepared, measuring: Measuring) -> Callable[..., NDArray[Any]]:
    """Returns what computes a part's result from what it reads as the original means it."""
    if isinstance(part.layer, QuantisedLayer):
        return partial(_exact, part.layer)
    session = measuring.open(cut_model(prepared.model, [part.source], [part.target]), ORIGINAL)

    def of_session(x: NDArray[Any]) -> NDArray[Any]:
        (result,) = run_session(session, [part.target], {part.source: x}, ORIGINAL)
        return result

    return of_session


def _exact(layer: QuantisedLayer, x: NDArray[Any], *fed: NDArray[Any]) -> NDArray[Any]:
    """Returns a layer's result; onnxruntime's own may be another one, on processors where its sums saturate."""
    spec = layer.spec.on(x.shape)
    given = {name: layer.constant(name) for name in layer.constants} | dict(zip(layer.fed, fed, strict=True))
    lifted, weights = x[:, :, None] if spec.one_dimensional else x, layer.integers
    bias, blocking = layer.bias.array if layer.bias else None, Blocking(spec, "channel", spec.group_in_channels)
    if isinstance(layer, IntegerLayer):
        x_and_w = Integers(lifted, given["x_zero_point"]), Integers(weights, given["w_zero_point"])
        y = reuse_conv_integer(*x_and_w, given["scale"], bias, blocking)
    else:
        quantised_x = Quantised(lifted, given["x_zero_point"], scale=given["x_scale"])
        quantised_w = Quantised(weights, given["w_zero_point"], scale=given["w_scale"])
        y = qlinear_reuse_conv(quantised_x, quantised_w, given["y_scale"], given["y_zero_point"], bias, blocking)
    return y[:, :, 0] if spec.one_dimensional else y


def _magnitudes(part: _Part, measuring: Measuring) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """Returns what tells, of an input and its result, the sum of squares of what is added up for each finite output:
    |weights| times |x|, plus |bias|.
    """
    if part.layer is None:
        return lambda x, expected: float(np.abs(x).max(initial=0.0)) ** 2 * expected.size
    if isinstance(part.layer, QuantisedLayer):
        return lambda x, expected: 0.0  # integers are not rounded
    session = measuring.open(_magnitude_model(part.layer), ORIGINAL)

    def of_layer(x: NDArray[Any], expected: NDArray[Any]) -> float:
        feed = {"x": np.abs(x if x.ndim == 4 else x[:, :, None])}
        result = run_session(session, ["y"], feed, ORIGINAL)[0].astype(np.float64)
        return float(np.sum(np.square(result.reshape(-1)[np.isfinite(expected).reshape(-1)])))

    return of_layer


def _magnitude_model(layer: ConvLayer) -> onnx.ModelProto:
    """Returns the layer's convolution with the absolute values of its weights."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes_of(layer.spec))]
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "xy"]
    constants = {"w": np.abs(layer.weights), "b": np.abs(layer.biases)}
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "magnitude", declared[:1], declared[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def _in_units(part: _Part, difference: Difference, squared_magnitude: float) -> float:
    """Returns an error as a multiple of what rounding explains; infinite for values that are not finite.

    Sums whose magnitudes overflow may do so in one order and not in another, so nothing can be said of them.
    """
    if not math.isfinite(squared_magnitude):
        return 0.0
    if difference.broken or (isinstance(part.layer, QuantisedLayer) and difference.differing):
        return math.inf
    columns, slope = 1, 1.0
    if part.layer is not None:
        columns = part.layer.spec.columns
        slope = max(1.0, abs(part.layer.activation.function.alpha)) if part.layer.activation else 1.0
    allowed = STEPS * UNIT * (STEPS + math.sqrt(columns)) * math.sqrt(squared_magnitude) * slope
    error = math.sqrt(difference.squared_error)
    return error / max(allowed, SMALLEST)
