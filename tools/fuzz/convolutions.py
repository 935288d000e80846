"""Drawing what several fuzzers need: legal convolutions, arrays, hash parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import reuse_compiler
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.geometry import AutoPad, Blocking, ConvSpec, Layout

Array = NDArray[Any]
Rng = np.random.Generator


def pick(rng: Rng, values: Sequence[Any]) -> Any:
    """Returns one of the values, as it is."""
    return values[int(rng.integers(len(values)))]


def open_quietly(rng: Rng, model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    """Opens a model for one to three threads; what onnxruntime would log is raised, too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(rng.integers(1, 4))
    options.log_severity_level = 4
    return reuse_compiler.session(model if isinstance(model, Path) else model.SerializeToString(), sess_options=options)


def draw_spec(rng: Rng, smallest: int = 1, one_dimensional: bool = False) -> ConvSpec:
    """Draws a legal convolution; extents of its input may be as small as `smallest`, which may be 0."""

    def pair(low: int, high: int, first: int = 1) -> tuple[int, int]:
        return (first if one_dimensional else int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1)))

    kernel, strides, dilations = pair(1, 5), pair(1, 3), pair(1, 3)
    auto_pad: AutoPad = pick(rng, ["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    begin, end = pair(0, 3, 0), pair(0, 3, 0)
    size = []
    for axis in (0, 1):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        padding = begin[axis] + end[axis] if auto_pad == "NOTSET" else 0
        least = smallest if auto_pad.startswith("SAME") else max(smallest, extent - padding)
        size.append(least + int(rng.integers(0, 8)))
    group = pick(rng, [1, 1, 1, 2, 3, 5])
    return ConvSpec(
        batch=int(rng.integers(smallest, 4)),
        in_channels=group * int(rng.integers(1, 7)),
        in_height=1 if one_dimensional else size[0],
        in_width=size[1],
        out_channels=group * int(rng.integers(1, 21)),
        kernel=kernel,
        strides=strides,
        pads=(*begin, *end),
        dilations=dilations,
        group=group,
        auto_pad=auto_pad,
        one_dimensional=one_dimensional,
    )


def draw_blocking(rng: Rng, spec: ConvSpec) -> Blocking:
    """Draws a layout and a length of vectors that fit."""
    layout: Layout = "patch" if rng.random() < 0.5 else "channel"
    width = Blocking(spec, layout, 1).group_width
    return Blocking(spec, layout, int(rng.integers(1, width + 1)))


def draw_array(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Draws normal float32 numbers; in every second array, elements along the second axis repeat few distinct rows."""
    values = rng.standard_normal(shape).astype(np.float32)
    if rng.random() < 0.5 and len(shape) > 2 and values.size > 0:
        rows = np.moveaxis(values, 1, -1).reshape(-1, shape[1])
        palette = rows[: int(rng.integers(1, 5))]
        rows = palette[rng.integers(0, len(palette), len(rows))]
        values = np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    return np.ascontiguousarray(values)


def draw_parameters(rng: Rng, family: str, blocking: Blocking, num_hashes: int) -> HashParameters:
    """Draws what a family hashes with; trees are random, too."""
    blocks, length = blocking.num_blocks, blocking.sub_vector_length
    if not FAMILIES[family].needs_samples:
        return FAMILIES[family].random_parameters(rng, blocks, length, num_hashes)
    nodes = 2**num_hashes - 1
    rotation = rng.standard_normal((blocks, length, length)).astype(np.float32) if rng.random() < 0.5 else None
    return HashParameters(
        projections=rotation,
        thresholds=(0.5 * rng.standard_normal((blocks, nodes))).astype(np.float32),
        coordinates=rng.integers(0, length, (blocks, nodes)).astype(np.int32),
    )


def assert_near(actual: Array, expected: Array, allowed: Array | float, what: str) -> None:
    """Fails with the place of the worst difference beyond `allowed`; NaN must be where NaN is expected."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if expected.size == 0:
        return
    assert np.array_equal(np.isnan(actual), np.isnan(expected)), f"{what}: NaN in other places"
    with np.errstate(all="ignore"):
        excess = np.abs(actual.astype(np.float64) - expected) - allowed
    excess = np.where((actual == expected) | np.isnan(expected), 0, excess)
    worst = np.unravel_index(int(excess.argmax()), excess.shape)
    assert excess[worst] <= 0, f"{what}: at {[int(i) for i in worst]} {actual[worst]}, expected {expected[worst]}"
