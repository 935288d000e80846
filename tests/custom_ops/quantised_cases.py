"""Quantised convolutions as test cases: strategies to draw them, and models that compute them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.lower_to_reuse import DOMAIN, INPUTS
from reuse_compiler.reference.quantised import Quantised
from reuse_compiler.reuse.geometry import FROM_PIXEL_MAJOR, TO_PIXEL_MAJOR, Blocking, ConvSpec, Layout
from tests.custom_ops.cases import blockings

Array = npt.NDArray[Any]
Byte = Literal["uint8", "int8"]
RUNTIME_TYPES: list[tuple[Byte, Byte, Byte]] = [
    ("uint8", "int8", "uint8"),
    ("uint8", "uint8", "uint8"),
    ("int8", "int8", "int8"),
]
"""Of x, w and y, as onnxruntime's QLinearConv has them."""


@functools.cache
def runtime_saturates() -> bool:
    """Tells whether onnxruntime adds products with large int8 weights in 16 bits on this processor."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx512_vnni" not in info and "avx_vnni" not in info


@dataclass(frozen=True)
class QuantisedCase:
    """A quantised convolution, its data (from a seed) and its reuse settings. Its repr repeats it."""

    spec: ConvSpec
    layout: Layout
    sub_vector_length: int
    scope: str = "batch"
    types: tuple[Byte, Byte, Byte] = ("uint8", "int8", "uint8")
    zero_points: tuple[int, int, int] = (128, 0, 128)
    """Of x, w and y, as offsets from the smallest value of the type: 0 to 255. Of w per channel: the first one's."""
    scale_per_channel: bool = True
    zero_point_per_channel: bool = False
    """Of w; zero points of different channels differ only where the types are none of onnxruntime's."""
    bias: bool = True
    spread: float = 40.0
    """What outputs are spread over, in units of y: a few, or so many that most are cut off at either end."""
    small_weights: bool = False
    """Of 7 bits, whose products onnxruntime never cuts off."""
    distinct: int = 0
    """0: random input; n: pixels repeat n distinct ones."""
    seed: int = 0

    @property
    def runtime_has_it(self) -> bool:
        """Tells whether onnxruntime's QLinearConv has these types, and is right about them here."""
        right = self.small_weights or self.types[1] == "uint8" or not runtime_saturates()
        return self.types in RUNTIME_TYPES and right

    def x(self) -> Array:
        """Returns pixel-major data [N, H, W, Ic]."""
        g, rng = self.spec, np.random.default_rng(self.seed)
        images = (g.batch, g.in_height, g.in_width)
        if not self.distinct:
            return _bytes(rng, (*images, g.in_channels), self.types[0])
        palette = _bytes(rng, (self.distinct, g.in_channels), self.types[0])
        return palette[rng.integers(0, self.distinct, images)]

    def constants(self) -> dict[str, Array]:
        """Returns all inputs but x, in order."""
        g, rng = self.spec, np.random.default_rng(self.seed + 1)
        w = _bytes(rng, g.weight_shape, self.types[1])
        if self.small_weights:
            w = (w // 2).astype(w.dtype)
        x_zero, w_zero, y_zero = (
            np.array(offset + np.iinfo(kind).min, kind)
            for offset, kind in zip(self.zero_points, self.types, strict=True)
        )
        if self.zero_point_per_channel:
            w_zero = np.full(g.out_channels, w_zero)
            if self.types not in RUNTIME_TYPES:
                w_zero[1:] = _bytes(rng, (g.out_channels - 1,), self.types[1])
        shape = (g.out_channels,) if self.scale_per_channel else ()
        w_scale = np.asarray(0.001 + 0.01 * rng.random(shape), np.float32)
        x_scale = np.float32(0.001 + rng.random())
        typical = 128 * 64 * np.sqrt(g.columns) * x_scale * w_scale.mean()  # size of a sum, in y's unit
        values = [x_scale, x_zero, w, w_scale, w_zero, np.float32(typical / self.spread), y_zero]
        constants = dict(zip(INPUTS["QLinearReuseConv"][1:], map(np.asarray, values), strict=False))
        if self.bias:
            constants["B"] = rng.integers(-(2**13), 2**13, g.out_channels).astype(np.int32)
        return constants

    def attributes(self) -> dict[str, Any]:
        return attributes_of(self.spec) | {
            "layout": self.layout,
            "sub_vector_length": self.sub_vector_length,
            "scope": self.scope,
        }

    def model(self, dynamic: bool = True) -> onnx.ModelProto:
        """Returns the model of the node of ours."""
        return self.with_node("QLinearReuseConv", self.constants(), DOMAIN, self.attributes(), dynamic)

    def original(self) -> onnx.ModelProto:
        """Returns the model of ONNX's operator, for the same data."""
        model = self._planar("QLinearConv", self.constants())
        model.graph.node.append(helper.make_node("Transpose", ["y"], ["Y"], perm=TO_PIXEL_MAJOR))
        return model

    def integer_constants(self, scale: Any = None) -> dict[str, Array]:
        """Returns all inputs of ReuseConvInteger but x, in order: one zero point of w, and a bias of floats."""
        c, rng = self.constants(), np.random.default_rng(self.seed + 2)
        scale = np.asarray(c["x_scale"] * c["w_scale"] if scale is None else scale, np.float32)
        values = [c["w"], c["x_zero_point"], c["w_zero_point"].reshape(-1)[0], scale]
        if self.bias:
            values.append(rng.standard_normal(self.spec.out_channels).astype(np.float32))
        return dict(zip(INPUTS["ReuseConvInteger"][1:], map(np.asarray, values), strict=False))

    def integer_model(self, scale: Any = None) -> onnx.ModelProto:
        """Returns the model of ReuseConvInteger."""
        return self.with_node("ReuseConvInteger", self.integer_constants(scale), DOMAIN, self.attributes(), True)

    def integer_original(self, scale: Any = None) -> onnx.ModelProto:
        """Returns the model of ConvInteger, Cast, Mul and Add for the same data."""
        constants = self.integer_constants(scale)
        by_channel = {name: constants.pop(name).reshape(-1, 1, 1) for name in ("scale", "B") if name in constants}
        model = self._planar("ConvInteger", constants)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in by_channel.items())
        model.graph.node.append(helper.make_node("Cast", ["y"], ["floats"], to=onnx.TensorProto.FLOAT))
        model.graph.node.append(helper.make_node("Mul", ["floats", "scale"], ["scaled"]))
        if self.bias:
            model.graph.node.append(helper.make_node("Add", ["scaled", "B"], ["biased"]))
        last = model.graph.node[-1].output[0]
        model.graph.node.append(helper.make_node("Transpose", [last], ["Y"], perm=TO_PIXEL_MAJOR))
        return model

    def _planar(self, op: str, constants: dict[str, Array]) -> onnx.ModelProto:
        """Returns a model of X as images and a node of ONNX's, with y; onnxruntime has no auto_pad with dilations."""
        attributes = attributes_of(self.spec) | {"pads": list(self.spec.pads)}
        attributes.pop("auto_pad", None)
        model = self.with_node(op, constants, "", attributes, dynamic=True)
        (node,) = model.graph.node
        node.input[0], node.output[0] = "x", "y"
        model.graph.node.insert(0, helper.make_node("Transpose", ["X"], ["x"], perm=FROM_PIXEL_MAJOR))
        return model

    def with_node(
        self, op: str, constants: dict[str, Array], domain: str, attributes: dict[str, Any], dynamic: bool
    ) -> onnx.ModelProto:
        """Returns a model of one node."""
        g = self.spec
        shape: list[Any] = ["N", "H", "W"] if dynamic else [g.batch, g.in_height, g.in_width]
        x_type, _, y_type = (helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in self.types)
        y_type = onnx.TensorProto.FLOAT if "Integer" in op else y_type
        graph = helper.make_graph(
            [helper.make_node(op, ["X", *constants], ["Y"], "conv", domain=domain, **attributes)],
            "case",
            [helper.make_tensor_value_info("X", x_type, [*shape, g.in_channels])],
            [helper.make_tensor_value_info("Y", y_type, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


ABSENT = np.zeros(0, np.float32)


@dataclass(frozen=True)
class HashedCase(QuantisedCase):
    """One whose vectors have codes."""

    family: str = "learned"
    num_hashes: int = 5
    rotated: bool = False

    def hash_parameters(self) -> dict[str, Array]:
        """Returns a random hash of vectors of this input's bytes."""
        rng, values = np.random.default_rng(self.seed + 5), self.byte_values()
        blocks, length, hashes = self.blocks, self.sub_vector_length, self.num_hashes
        if self.family == "sign":
            projections = rng.standard_normal((blocks, length, hashes)).astype(np.float32)
            thresholds = (values.mean() * projections.sum(axis=1)).astype(np.float32)
            return {"projections": projections, "thresholds": thresholds, "coordinates": np.zeros(0, np.int32)}
        nodes = (blocks, 2**hashes - 1)
        thresholds = rng.choice(values, nodes) + rng.choice(np.array([0.0, 0.0, 0.001], np.float32), nodes)
        thresholds[rng.random(nodes) < 0.02] = np.inf
        if self.seed % 4 == 0:  # below all that bytes stand for
            thresholds[rng.random(nodes) < 0.05] = values.min() - 1.0
        rotation = rng.standard_normal((blocks, length, length)).astype(np.float32)
        return {
            "projections": rotation if self.rotated else ABSENT,
            "thresholds": thresholds.astype(np.float32),
            "coordinates": rng.integers(0, length, nodes).astype(np.int32),
        }

    def byte_values(self) -> Array:
        """Returns all that bytes of the input stand for."""
        own, limits = super().constants(), np.iinfo(self.types[0])
        every = np.arange(limits.min, limits.max + 1).astype(self.types[0])
        return Quantised(every, own["x_zero_point"], scale=own["x_scale"]).dequantised()

    @property
    def blocks(self) -> int:
        return Blocking(self.spec, self.layout, self.sub_vector_length).num_blocks

    def constants(self) -> dict[str, Array]:
        own = super().constants()
        own.setdefault("B", np.zeros(0, np.int32))
        return {**own, **self.hash_parameters()}

    def attributes(self) -> dict[str, Any]:
        return super().attributes() | {"family": self.family, "num_hashes": self.num_hashes}


def _bytes(rng: np.random.Generator, shape: tuple[int, ...], kind: Byte) -> Array:
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max + 1, shape).astype(kind)


ZERO_POINTS = st.sampled_from([0, 255, 128, 127, 3])


@st.composite
def quantised_cases(draw: st.DrawFn, only_runtime_types: bool = False) -> QuantisedCase:
    """Draws a case."""
    byte: st.SearchStrategy[Byte] = st.sampled_from(["uint8", "int8"])
    types = draw(st.sampled_from(RUNTIME_TYPES) if only_runtime_types else st.tuples(byte, byte, byte))
    return QuantisedCase(
        **vars(draw(blockings())),
        scope=draw(st.sampled_from(["batch", "image"])),
        types=types,
        zero_points=draw(st.tuples(ZERO_POINTS, ZERO_POINTS, ZERO_POINTS)),
        scale_per_channel=draw(st.booleans()),
        zero_point_per_channel=draw(st.booleans()),
        bias=draw(st.booleans()),
        spread=draw(st.sampled_from([2.0, 60.0, 1000.0])),
        small_weights=only_runtime_types and (runtime_saturates() or draw(st.booleans())),
        distinct=draw(st.sampled_from([0, 1, 3])),
        seed=draw(st.integers(0, 2**16)),
    )
