"""Small networks to calibrate, their samples, and what the steps of a calibration need of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.layers import Workpiece, examine
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.samples import Samples, from_reader
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.reuse.config import LayerSettings, make_settings
from reuse_compiler.verification.inputs import Feed, model_inputs
from tests.passes.models import model_of, random_array, tensor, value

Floats = NDArray[np.float32]
EFFORT = Effort(
    lengths=(4, 8),
    hashes={"learned": (4, 6), "sign": (4,), "exact": (1,)},
    static_hashes=(4, 6),
    repeats=1,
    timed_runs=5,
    fit_runs=4,
    fit_vectors=400,
    products=1e6,
    draft_products=1e6,
    trials=4,
)
BATCH, SIZE = 2, 8


def conv(
    x: str, weight: str, result: str, name: str = "", bias: str | None = None, **attributes: Any
) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, weight, *([bias] if bias else [])], [result], name=name, **attributes)


def relu(x: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [result], name=f"relu_{result}")


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return tensor(name, random_array(*shape) / np.float32(np.sqrt(np.prod(shape[1:]))))


def network() -> onnx.ModelProto:
    """X [N, 3, 8, 8] -> `first` + Relu -> pool -> `grouped` + Relu -> `last` -> y [N, 6, 4, 4]."""
    nodes = [
        conv("x", "w1", "c1", "first", "b1", pads=[1, 1, 1, 1]),
        relu("c1", "r1"),
        helper.make_node("MaxPool", ["r1"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("p", "w2", "c2", "grouped", group=2, pads=[1, 1, 1, 1]),
        relu("c2", "r2"),
        conv("r2", "w3", "y", "last", "b3"),
    ]
    constants = [weight("w1", 8, 3, 3, 3), weight("w2", 12, 4, 3, 3), weight("w3", 6, 12, 1, 1)]
    constants += [tensor("b1", random_array(8)), tensor("b3", random_array(6))]
    return model_of(nodes, [value("x", ["N", 3, SIZE, SIZE])], [value("y", ["N", 6, 4, 4])], constants)


def network_1d() -> onnx.ModelProto:
    """X [N, 4, T] -> `first` + Relu -> `grouped` (two groups, stride 2) -> y."""
    nodes = [
        conv("x", "w1", "c1", "first", "b1", pads=[1, 1]),
        relu("c1", "r1"),
        conv("r1", "w2", "y", "grouped", group=2, strides=[2]),
    ]
    constants = [weight("w1", 8, 4, 3), tensor("b1", random_array(8)), weight("w2", 6, 4, 3)]
    return model_of(nodes, [value("x", ["N", 4, "T"])], [value("y", ["N", 6, "U"])], constants)


def feeds_of(model: onnx.ModelProto, runs: int = 4, batch: int = BATCH) -> list[Feed]:
    """Smooth inputs, so that vectors are similar; free lengths are 32."""
    feeds = []
    for run in range(runs):
        feed = {}
        for spec in model_inputs(model):
            assert spec.dims is not None
            sizes = [dim if isinstance(dim, int) else 32 for dim in spec.dims[1:]]
            small = random_array(
                batch, *(size if axis == 0 else -(-size // 4) for axis, size in enumerate(sizes)), seed=run
            )
            for axis, size in enumerate(sizes[1:], 2):
                small = small.repeat(4, axis=axis)[(slice(None),) * axis + (slice(size),)]
            feed[spec.name] = small + np.float32(0.1) * random_array(*small.shape, seed=run + 1000)
        feeds.append(feed)
    return feeds


def samples_of(model: onnx.ModelProto, feeds: Sequence[Feed]) -> Samples:
    return from_reader(list(feeds), model_inputs(model))


def work_of(model: onnx.ModelProto, feed: Feed | None = None, **options: Any) -> Workpiece:
    shapes = {name: array.shape for name, array in (feed or feeds_of(model, 1)[0]).items()}
    dynamic = {spec.name for spec in model_inputs(model) if spec.is_dynamic}
    own = {name: shape for name, shape in shapes.items() if name in dynamic}
    return examine(model, CalibrationOptions(shapes=own, **options))


def settings_for(layer: ConvLayer, family: str = "learned", hashes: int = 6, **settings: Any) -> LayerSettings:
    """Settings with L = 4 channels, or the whole unfolded input where there are fewer."""
    g = layer.spec
    cut = {"layout": "channel", "L": 4} if g.group_in_channels >= 4 else {"layout": "patch", "L": g.columns}
    return make_settings(**({"family": family, "H": hashes} | cut | settings))
