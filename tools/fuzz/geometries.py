"""Legal convolutions of all kinds, compiled with random settings: equal to a convolution written here, or the reference

The oracle of lossless settings is a plain convolution in float64 that uses nothing of the project's, with a bound on
what float32 may lose: sums are judged by the magnitudes that went into them, as they may cancel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.pipeline import lower
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.reuse.int8_tables import LARGEST_INT8_ENTRY
from tools.fuzz.convolutions import (
    Array,
    Rng,
    assert_near,
    draw_array,
    draw_blocking,
    draw_parameters,
    draw_spec,
    open_quietly,
    pick,
)

EPSILON = 2.0**-24
"""Half a unit in the last place of float32: what one rounding may change, relatively."""
SEQUEL = ConvSpec(0, 1, 0, 0, 5, (2, 3), pads=(1, 1, 0, 1))
"""The second convolution of a chain, but for its input."""


def check(rng: Rng, folder: Path) -> None:
    """Draws a convolution, or a chain with pooling between two, compiles and runs it, and compares."""
    np.seterr(all="ignore")
    spec = draw_spec(rng, smallest=int(rng.integers(0, 2)), one_dimensional=rng.random() < 0.2)
    chained = not spec.one_dimensional and rng.random() < 0.3
    model, constants = _model(rng, spec, chained)
    onnx.save(model, folder / "original.onnx")
    x = draw_array(rng, spec.input_shape)
    if rng.random() < 0.3:
        x *= (10.0 ** rng.uniform(-6, 6, x.shape)).astype(np.float32)
    elif x.size > 0 and not chained and rng.random() < 0.2:  # what Relu and MaxPool do with NaN is not defined
        x.reshape(-1)[rng.integers(0, x.size, 2)] = pick(rng, [np.nan, np.inf, -np.inf])
    np.save(folder / "x.npy", x)
    b = draw_blocking(rng, spec)
    settings = _draw_settings(rng, b, lossless=chained)
    (folder / "settings.json").write_text(settings.model_dump_json(), encoding="utf-8")
    parameters = draw_parameters(rng, settings.family, b, settings.num_hashes)
    if chained:
        lowered = lower(model, CompileOptions(family="exact", force=True, scope=settings.scope))
    else:
        staged = settings.table == "float" and rng.random() < 0.3
        options = CompileOptions(lowering="staged" if staged else "fused")
        config = ReuseConfig(layers={"conv": settings})
        lowered = lower(model, options, config, Fitted({"conv": parameters}))
    onnx.save(lowered.model, folder / "lowered.onnx")
    depthwise = spec.group > 1 and spec.group_in_channels == 1
    assert lowered.modified or depthwise or spec.rows == 0, [layer.reason for layer in lowered.layers]
    try:
        dense = _run(model, x, rng)
    except Exception:  # onnxruntime refuses some inputs without elements; the compiled model may do so, too
        assert spec.rows == 0
        return
    try:
        actual = _run(lowered.model, x, rng)
    except Exception:  # for our operators, an input without rows or columns is an error (docs/operators.md, Errors)
        if 0 not in x.shape[2:] or not lowered.modified:
            raise
        return
    exact, bound = _oracle(spec, x, constants, chained)
    assert_near(dense, exact, bound, "onnxruntime's Conv against the oracle")
    lossless = chained or (FAMILIES[settings.family].lossless and settings.table == "float")
    if lossless or not lowered.modified:
        assert_near(actual, exact, bound, "the lossless model against the oracle")
        return
    reference = np.asarray(ReferenceEvaluator(lowered.model, new_ops=REFERENCE_OPS).run(None, {"x": x})[0])  # type: ignore[index]
    allowed = 1e-4 * np.abs(reference[np.isfinite(reference)]).max(initial=0) + 1e-5
    if settings.table == "int8" and np.isfinite(x).all():
        allowed += 2 * _step(b, x, constants["w"])
    assert_near(actual, reference, allowed, "the compiled model against the reference operators")


def _model(rng: Rng, spec: ConvSpec, chained: bool) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Returns Conv, or Conv, Relu, MaxPool and Conv, and its weights."""
    constants = {"w": rng.standard_normal(spec.weight_shape).astype(np.float32)}
    if rng.random() < 0.7:
        constants["b"] = rng.standard_normal(spec.out_channels).astype(np.float32)
    attributes = attributes_of(spec)
    if spec.one_dimensional:
        halves = {name: values[1::2] for name, values in attributes.items() if isinstance(values, list)}
        attributes |= halves
    if max(spec.dilations) > 1 and "auto_pad" in attributes:  # which onnxruntime's Conv does not take
        del attributes["auto_pad"]
        attributes["pads"] = list(spec.pads[1::2] if spec.one_dimensional else spec.pads)
    first = helper.make_node("Conv", ["x", *constants], ["y"], "conv", **attributes)
    nodes = [first]
    if chained:
        first.output[0] = "c"
        constants["w2"] = rng.standard_normal((SEQUEL.out_channels, spec.out_channels, *SEQUEL.kernel)).astype(
            np.float32
        )
        nodes += [
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], pads=[1, 1, 1, 1], strides=[1, 2]),
            helper.make_node("Conv", ["p", "w2"], ["y"], "conv2", pads=list(SEQUEL.pads)),
        ]
    shape: list[Any] = [size if rng.random() < 0.5 else f"d{axis}" for axis, size in enumerate(spec.input_shape)]
    shape[1] = spec.in_channels
    graph = helper.make_graph(
        nodes,
        "geometry",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), constants


def _draw_settings(rng: Rng, b: Blocking, lossless: bool) -> LayerSettings:
    family = "exact" if lossless or rng.random() < 0.5 else str(pick(rng, list(FAMILIES)))
    scope = pick(rng, ["batch", "image", "session"])
    return LayerSettings(
        family=family,  # type: ignore[arg-type]
        layout=b.layout,
        L=b.sub_vector_length,
        H=int(rng.integers(1, 9 if FAMILIES[family].needs_samples else 41)),
        scope=scope,
        capacity=pick(rng, [1.0, 1.0, 0.3]),
        metric=pick(rng, ["euclidean", "angular"]),
        table="float" if scope == "session" else pick(rng, ["float", "float", "int8"]),
    )


def _run(model: onnx.ModelProto, x: Array, rng: Rng) -> Array:
    return np.asarray(open_quietly(rng, model).run(None, {"x": x})[0])


def _oracle(spec: ConvSpec, x: Array, constants: dict[str, Array], chained: bool) -> tuple[Array, Array]:
    """Returns the output in float64 and, for every element, what a computation in float32 may be off by."""
    exact, bound = _convolve(spec, x.astype(np.float64), np.zeros(x.shape), constants["w"], constants.get("b"))
    if chained:
        exact = _pool(np.maximum(exact, 0.0))
        bound = _pool(bound)
        exact, bound = _convolve(SEQUEL, exact, bound, constants["w2"], None)
    return exact, bound


def _convolve(spec: ConvSpec, x: Array, error: Array, w: Array, bias: Array | None) -> tuple[Array, Array]:
    """Returns the convolution of an input that is off by `error`, and by what its result is off at most."""
    weights, terms = w.astype(np.float64), w[0].size + 8
    y = _products(spec, x, weights)
    size = _products(spec, np.abs(x) + error, np.abs(weights))
    if bias is not None:
        channels = bias.astype(np.float64).reshape(-1, *[1] * (y.ndim - 2))
        y, size = y + channels, size + np.abs(channels)
    return y, _products(spec, error, np.abs(weights)) + 2 * terms * EPSILON * size + 1e-37


def _products(spec: ConvSpec, x: Array, w: Array) -> Array:
    """Returns ONNX's Conv without a bias in float64: tap by tap, group by group."""
    planes = x[:, :, None] if x.ndim == 3 else x
    kernel = w[:, :, None] if w.ndim == 3 else w
    pads = [spec.pads[axis::2] if spec.auto_pad == "NOTSET" else _same(spec, planes, axis) for axis in (0, 1)]
    padded = np.pad(planes, [(0, 0), (0, 0), *pads])
    groups = planes.shape[1] // kernel.shape[1]
    outs = [
        max(0, padded.shape[2 + axis] - (kernel.shape[2 + axis] - 1) * spec.dilations[axis] - 1) // spec.strides[axis]
        + 1
        for axis in (0, 1)
    ]
    y = np.zeros((len(x), len(kernel), *outs))
    per_group = len(kernel) // groups
    for row, column in np.ndindex(*kernel.shape[2:]):
        top, left = row * spec.dilations[0], column * spec.dilations[1]
        bottom, right = top + (outs[0] - 1) * spec.strides[0] + 1, left + (outs[1] - 1) * spec.strides[1] + 1
        seen = padded[:, :, top : bottom : spec.strides[0], left : right : spec.strides[1]]
        for group in range(groups):
            own = slice(group * kernel.shape[1], (group + 1) * kernel.shape[1])
            out = slice(group * per_group, (group + 1) * per_group)
            y[:, out] += np.einsum("nchw,mc->nmhw", seen[:, own], kernel[out, :, row, column])
    return y[:, :, 0] if x.ndim == 3 else y


def _same(spec: ConvSpec, planes: Array, axis: int) -> tuple[int, int]:
    """Returns ONNX's padding of one axis for an auto_pad: outputs are as many as strides fit the input."""
    size, extent = planes.shape[2 + axis], (spec.kernel[axis] - 1) * spec.dilations[axis] + 1
    if spec.auto_pad == "VALID":
        return 0, 0
    wanted = max(0, (-(-size // spec.strides[axis]) - 1) * spec.strides[axis] + extent - size)
    return (wanted // 2, wanted - wanted // 2) if spec.auto_pad == "SAME_UPPER" else (wanted - wanted // 2, wanted // 2)


def _pool(x: Array) -> Array:
    """Returns the MaxPool of the chain of values that are not negative."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = [padded[:, :, a : a + x.shape[2] + 1, b : b + x.shape[3] + 1] for a in (0, 1) for b in (0, 1)]
    pooled: Array = np.max(windows, axis=0)[:, :, :, ::2]
    return pooled


def _step(b: Blocking, x: Array, w: Array) -> float:
    """Returns more than the largest scale of int8 tables: what an entry that is rounded the other way changes."""
    largest = float(np.abs(x).max(initial=0)) * float(np.abs(w).max(initial=0))
    return b.sub_vector_length * largest / LARGEST_INT8_ENTRY
