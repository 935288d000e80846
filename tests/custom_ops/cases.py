"""Convolutions with reuse settings as test cases: strategies to draw them, and models that compute them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.lower_to_reuse import INPUTS
from reuse_compiler.reference.op_run import DOMAIN
from reuse_compiler.reuse.activation import NO_ACTIVATION, RELU, Activation
from reuse_compiler.reuse.config import DEFAULT_MEMORY
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.geometry import AutoPad, Blocking, ConvSpec, DataOrder, Layout

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A convolution, its data (from a seed) and its reuse settings. Its repr repeats it."""

    spec: ConvSpec
    layout: Layout
    sub_vector_length: int
    family: str
    num_hashes: int
    scope: str = "batch"
    capacity: float = 1.0
    metric: str = "euclidean"
    activation: Activation = NO_ACTIVATION
    bias: bool = True
    distinct: int = 0
    """0: random input; n: pixels repeat n distinct ones, so that vectors repeat."""
    seed: int = 0
    table: str = "float"
    """Of the fused form; the staged one has float tables only."""
    input_order: DataOrder = "nchw"
    output_order: DataOrder = "nchw"
    """Of the fused form's X and Y."""
    memory: int = DEFAULT_MEMORY
    """Of scope session."""
    keep_tables: bool = True
    incremental: bool = False
    """Of scope static, in the fused form."""
    spoiled: int = 0
    """How many elements of X are a NaN or an infinity."""

    @property
    def blocking(self) -> Blocking:
        return Blocking(self.spec, self.layout, self.sub_vector_length)

    def data(self) -> tuple[Array, Array, Array]:
        """Returns X, W, bias."""
        g, rng = self.spec, np.random.default_rng(self.seed)
        shape = g.input_shape
        if self.distinct:
            palette = rng.standard_normal((self.distinct, g.in_channels)).astype(np.float32)
            picks = rng.integers(0, self.distinct, (g.batch, g.in_height, g.in_width))
            x = np.ascontiguousarray(palette[picks].transpose(0, 3, 1, 2))
        else:
            x = rng.standard_normal(shape).astype(np.float32)
        if self.spoiled:
            places = np.random.default_rng(self.seed + 2).integers(0, x.size, self.spoiled)
            x.flat[places] = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), self.spoiled)
        w = rng.standard_normal(g.weight_shape).astype(np.float32)
        return x, w, rng.standard_normal(g.out_channels).astype(np.float32)

    def inputs(self, runs: int) -> list[Array]:
        """Returns inputs of further runs, each of which has many of X's pixels, at other places."""
        x, rng = self.data()[0], np.random.default_rng(self.seed + 3)
        pixels = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
        result = []
        for _ in range(runs):
            own = pixels[rng.integers(0, len(pixels), len(pixels))]
            new = rng.random(len(pixels)) < 0.2
            own[new] += rng.standard_normal(own[new].shape).astype(np.float32)
            images = own.reshape(len(x), *x.shape[2:], x.shape[1]).transpose(0, 3, 1, 2)
            result.append(np.ascontiguousarray(images))
        return result

    def centroids(self) -> Array:
        """Returns the centroids of scope static, by code."""
        blocks, length = self.blocking.num_blocks, self.sub_vector_length
        rng = np.random.default_rng(self.seed + 4)
        return rng.standard_normal((blocks, 2**self.num_hashes, length)).astype(np.float32)

    def parameters(self) -> HashParameters:
        """Draws the family's parameters; learned trees are random, too, every second one with a rotation."""
        rng = np.random.default_rng(self.seed + 1)
        blocks, length = self.blocking.num_blocks, self.sub_vector_length
        if not FAMILIES[self.family].needs_samples:
            return FAMILIES[self.family].random_parameters(rng, blocks, length, self.num_hashes)
        nodes = 2**self.num_hashes - 1
        rotation = rng.standard_normal((blocks, length, length)).astype(np.float32) if self.seed % 2 else None
        return HashParameters(
            projections=rotation,
            thresholds=(0.5 * rng.standard_normal((blocks, nodes))).astype(np.float32),
            coordinates=rng.integers(0, length, (blocks, nodes)).astype(np.int32),
        )

    def geometry_attributes(self) -> dict[str, Any]:
        return attributes_of(self.spec) | {"layout": self.layout, "sub_vector_length": self.sub_vector_length}

    def model(self, lowering: str, dynamic: bool = True) -> onnx.ModelProto:
        """Builds Y = convolution of X with reuse, `fused` or `staged`, or `dense` for ONNX's Conv with activation."""
        _, w, bias = self.data()
        constants = {"W": w, "bias": bias if self.bias else np.zeros(0, np.float32)}
        names = []
        values = self.parameters().items()
        while values and values[-1][1] is None:
            values.pop()
        for name, value in values:
            empty = np.zeros(0, HashParameters.element(name))
            constants[name] = empty if value is None else value
            names.append(name)
        if self.scope == "static":
            constants["given"] = self.centroids()
            constants |= {"nothing": np.zeros(0, np.float32), "no_coordinates": np.zeros(0, np.int32)}
        build = {"fused": self._fused, "staged": self._staged, "dense": self._dense}[lowering]
        g = self.spec
        shape: list[Any] = list(g.input_shape)
        if dynamic:
            shape = ["N", g.in_channels, "H", "W"]
        if self.input_order == "nhwc":
            shape = [shape[axis] for axis in (0, 2, 3, 1)]
        graph = helper.make_graph(
            build(names),
            "case",
            [
                helper.make_tensor_value_info("X", TensorProto.FLOAT, shape),
            ],
            [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def _cluster_attributes(self) -> dict[str, Any]:
        verify = int(FAMILIES[self.family].lossless)
        memory = {} if self.memory == DEFAULT_MEMORY else {"memory": self.memory}
        return {"scope": self.scope, "capacity": self.capacity, "metric": self.metric, "verify": verify, **memory}

    def _gather_attributes(self) -> dict[str, Any]:
        return self.activation._asdict()

    def _fused(self, parameters: list[str]) -> list[onnx.NodeProto]:
        attributes = self.geometry_attributes() | self._cluster_attributes() | self._gather_attributes()
        attributes |= {"family": self.family, "num_hashes": self.num_hashes}
        if self.table != "float":
            attributes["table"] = self.table
        if self.input_order == "nhwc":
            attributes["input_perm"] = [0, 3, 1, 2]
        if self.output_order == "nhwc":
            attributes["output_perm"] = [0, 2, 3, 1]
        inputs = ["X", "W", "bias", *parameters]
        if self.scope == "static":
            absent = INPUTS["ReuseConv"][len(inputs) : -1]
            inputs += ["no_coordinates" if name == "coordinates" else "nothing" for name in absent] + ["given"]
            attributes |= {} if self.keep_tables else {"keep_tables": 0}
            attributes |= {"incremental": 1} if self.incremental else {}
        return [helper.make_node("ReuseConv", inputs, ["Y"], "conv", domain=DOMAIN, **attributes)]

    def _staged(self, parameters: list[str]) -> list[onnx.NodeProto]:
        spec = self.geometry_attributes()
        make, given = helper.make_node, ["given"] if self.scope == "static" else []
        hashed: dict[str, Any] = {"family": self.family, "num_hashes": self.num_hashes}
        return [
            make("Hash", ["X", *parameters], ["codes"], "hash", domain=DOMAIN, **spec, **hashed),
            make("Cluster", ["X", "codes", *given], ["ids", "centroids", "counts"], "cluster", domain=DOMAIN,
                 **spec, **self._cluster_attributes()),
            make("CentroidGemm", ["centroids", "counts", "W"], ["table"], "gemm", domain=DOMAIN, layout=self.layout,
                 group=self.spec.group),
            make("Gather", ["table", "ids", "X", "bias"], ["Y"], "gather", domain=DOMAIN, **spec,
                 **self._gather_attributes()),
        ]  # fmt: skip

    def _dense(self, parameters: list[str]) -> list[onnx.NodeProto]:
        # Explicit pads: onnxruntime's Conv takes no auto_pad with dilations.
        attributes = self.geometry_attributes() | {"pads": list(self.spec.pads)}
        for name in ("layout", "sub_vector_length", "auto_pad"):
            attributes.pop(name, None)
        inputs = ["X", "W", "bias"] if self.bias else ["X", "W"]
        if self.activation == NO_ACTIVATION:
            return [helper.make_node("Conv", inputs, ["Y"], "conv", **attributes)]
        nodes = [helper.make_node("Conv", inputs, ["conv_out"], "conv", **attributes)]
        if self.activation.alpha != 1.0:
            return [*nodes, helper.make_node("LeakyRelu", ["conv_out"], ["Y"], alpha=self.activation.alpha)]
        limits = ("min", "max")
        for name in limits:
            nodes.append(helper.make_node("Constant", [], [name], value_float=getattr(self.activation, name)))
        return [*nodes, helper.make_node("Clip", ["conv_out", *limits], ["Y"])]


ACTIVATIONS = [NO_ACTIVATION, RELU, Activation(min=0.0, max=6.0), Activation(min=-0.5), Activation(alpha=0.1)]


@st.composite
def specs(draw: st.DrawFn) -> ConvSpec:
    """Draws a legal convolution down to 1x1."""
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilations = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    group = draw(st.sampled_from([1, 1, 1, 2, 3]))
    auto_pad: AutoPad = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    size = []
    for axis in (0, 1):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        padding = pads[axis] + pads[axis + 2] if auto_pad == "NOTSET" else 0
        smallest = 1 if auto_pad.startswith("SAME") else max(1, extent - padding)
        size.append(draw(st.integers(smallest, smallest + 6)))
    in_channels, out_channels = group * draw(st.integers(1, 6)), group * draw(st.integers(1, 20))
    batch = draw(st.integers(1, 3))
    return ConvSpec(
        batch, in_channels, size[0], size[1], out_channels, kernel, strides, pads, dilations, group, auto_pad
    )


@st.composite
def blockings(draw: st.DrawFn) -> Blocking:
    """Draws a convolution and its blocks; L need not divide K or the channels."""
    spec = draw(specs())
    layout: Layout = draw(st.sampled_from(["patch", "channel"]))
    return Blocking(spec, layout, draw(st.integers(1, Blocking(spec, layout, 1).group_width)))


@st.composite
def cases(draw: st.DrawFn, families: Collection[str] = tuple(FAMILIES), table: str = "float") -> Case:
    """Draws a case."""
    family = draw(st.sampled_from(sorted(families)))
    return Case(
        **vars(draw(blockings())),
        family=family,
        num_hashes=draw(st.integers(1, 8 if family == "learned" else 40)),
        scope=draw(st.sampled_from(["batch", "image"])),
        capacity=draw(st.sampled_from([1.0, 1.0, float(np.float32(0.3))])),  # as the attribute has it
        metric=draw(st.sampled_from(["euclidean", "angular"])),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        bias=draw(st.booleans()),
        distinct=draw(st.sampled_from([0, 1, 3])),
        seed=draw(st.integers(0, 2**16)),
        table=table,
    )


@st.composite
def static_cases(draw: st.DrawFn, tables: Collection[str] = ("float", "int8"), most_hashes: int = 10) -> Case:
    """Draws a case of scope static, some with a NaN or an infinity, and with more channels than a tile has."""
    case = draw(cases(families=[name for name, family in FAMILIES.items() if not family.lossless]))
    groups = case.spec.group
    return replace(
        case,
        spec=replace(case.spec, out_channels=groups * draw(st.sampled_from([1, 3, 16, 20, 64, 70, 150]))),
        num_hashes=draw(st.integers(1, most_hashes)),
        scope="static",
        capacity=1.0,
        metric="euclidean",
        table=draw(st.sampled_from(sorted(tables))),
        keep_tables=draw(st.booleans()),
        spoiled=draw(st.sampled_from([0, 0, 1, 4])),
    )


@st.composite
def session_cases(draw: st.DrawFn, families: Collection[str] = tuple(FAMILIES)) -> Case:
    """Draws a case of scope session, some with memory for few clusters or none; `Case.inputs` has inputs of runs."""
    case = draw(cases(families=families))
    row = 4 * (case.sub_vector_length + case.blocking.table_width)
    return replace(
        case,
        num_hashes=min(case.num_hashes, draw(st.sampled_from([2, 5, 40]))),
        scope="session",
        memory=draw(st.sampled_from([DEFAULT_MEMORY, DEFAULT_MEMORY, 20 * row + 1, 3 * row, 0])),
        spoiled=draw(st.sampled_from([0, 0, 1, 4])),
    )
