"""A model's convolutions as the passes find them, and the model in which they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from reuse_compiler.graph.constants import Constant
from reuse_compiler.graph.shapes import Shape, infer_declarations, tensor_shapes
from reuse_compiler.graph.structure import ScopePath
from reuse_compiler.graph.view import GraphView, NodeRef
from reuse_compiler.reuse.activation import Activation
from reuse_compiler.reuse.geometry import ConvSpec

Floats = NDArray[np.float32]
QLINEAR_CONV_INPUTS = ("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "B")
INTEGER_CONV_INPUTS = ("x", "w", "x_zero_point", "w_zero_point", "scale", "B")
"""Of ReuseConvInteger: those of ConvInteger, and what its result is multiplied with and added to."""


class Refusal(Exception):
    """Why reuse leaves a convolution as it is, as the sentence of the report."""


@dataclass(frozen=True)
class ActivationNode:
    """An activation node that the rewritten layer takes in."""

    ref: NodeRef
    function: Activation


@dataclass(frozen=True)
class Normalization:
    """A BatchNormalization of the layer's result with constants: result * scale + shift, by output channel."""

    ref: NodeRef
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


@dataclass(frozen=True)
class Quantised:
    """What makes a layer one of bytes: QLinearConv, or a Conv between DequantizeLinear and QuantizeLinear; and, where
    the result is floats, a Conv behind DequantizeLinear, or ConvInteger with a Cast and a Mul.
    """

    tensors: Mapping[str, gs.Tensor]
    """By QLinearConv's names of its inputs, as far as they are there. `B` may be of floats; one that is dequantised has
    `B_scale`, and perhaps `B_zero_point`. ConvInteger has `scale`, which is that of the products."""
    weight_axis: int = 0
    """The axis of `w` that scales and zero points are along, if there are several."""
    after: Sequence[NodeRef] = ()
    """The nodes behind it that make its result of the sums: QuantizeLinear, or Cast, Mul and perhaps Add."""

    @property
    def gives_bytes(self) -> bool:
        return "y_scale" in self.tensors


@dataclass(frozen=True)
class Layer:
    """A Conv-like node of a model; one that reuse can compute is a `ConvLayer` without a refusal."""

    name: str
    ref: NodeRef
    normalization: Normalization | None = None
    activation: ActivationNode | None = None
    quantised: Quantised | None = None
    refusal: str | None = None
    """Why reuse cannot compute it, as the sentence of the report."""

    @property
    def proto(self) -> onnx.NodeProto:
        return self.ref.proto

    @property
    def taken_in(self) -> list[NodeRef]:
        """The node and those after it that the rewritten layer computes, too, in order."""
        after = (self.normalization, self.activation)
        nodes = [self.ref, *(each.ref for each in after if each is not None)]
        return nodes if self.quantised is None else [*nodes, *self.quantised.after]

    @property
    def input(self) -> str:
        """The tensor that it reads."""
        return str((self.quantised.tensors["x"] if self.quantised else self.ref.node.inputs[0]).name)

    @property
    def linear_output(self) -> str:
        """The tensor that holds the layer's result before the activation."""
        last = self.normalization.ref if self.normalization else self.ref
        return str(last.node.outputs[0].name)

    @property
    def output(self) -> str:
        """The tensor that holds the layer's result in the original and in the rewritten model."""
        return str(self.taken_in[-1].node.outputs[0].name)

    @property
    def in_main(self) -> bool:
        """Whether the layer stands in the main graph, not in a body."""
        return self.ref.scope.parent is None


@dataclass(frozen=True, kw_only=True)
class ConvLayer(Layer):
    """A convolution with its description and its constants, into which a normalization of the result is folded."""

    spec: ConvSpec
    weight: Constant
    bias: Constant | None

    @property
    def weights(self) -> Floats:
        """The weights [M, Ic/group, kh, kw]; a 1-D layer has kh = 1."""
        array = self.weight.array.astype(np.float32, copy=False)
        return array[:, :, None] if self.spec.one_dimensional else array

    @property
    def biases(self) -> Floats:
        """The bias [M], zeros if the layer has none."""
        if self.bias is None:
            return np.zeros(self.spec.out_channels, np.float32)
        return self.bias.array.astype(np.float32, copy=False)

    def input_values(self, x: NDArray[Any]) -> NDArray[Any]:
        """Returns the numbers that an input as the model has it stands for."""
        return x

    def output_values(self, y: NDArray[Any]) -> NDArray[Any]:
        """Returns the numbers that a result as the model has it stands for."""
        return y

    def representable(self, values: NDArray[Any]) -> NDArray[Any]:
        """Returns the numbers nearest to these that results can stand for."""
        return values


@dataclass(frozen=True, kw_only=True)
class QuantisedLayer(ConvLayer):
    """A convolution of bytes; `weight` is QLinearConv's `w`, and `bias` its `B`."""

    operator: ClassVar[str] = "QLinearReuseConv"
    constants: Mapping[str, Constant]
    """The scales and zero points, by the operator's names of its inputs."""
    fed: Mapping[str, str] = field(default_factory=dict)
    """The tensors that only a run knows, likewise: the scale and the zero point of x that a ConvInteger has."""

    def constant(self, name: str) -> NDArray[Any]:
        """Returns a scale or zero point: a scalar, or [M]."""
        array = self.constants[name].array
        return array.reshape(()) if array.size == 1 else array

    @property
    def types(self) -> tuple[int, int]:
        """Returns the element types of x and y."""
        return self._x_type, int(self.constants["y_zero_point"].tensor.data_type)

    @property
    def _x_type(self) -> int:
        return int(onnx.TensorProto.UINT8 if self.spec.element == "uint8" else onnx.TensorProto.INT8)

    @property
    def integers(self) -> NDArray[Any]:
        """`w` [M, Ic/group, kh, kw]; a 1-D layer has kh = 1."""
        array = self.weight.array
        return array[:, :, None] if self.spec.one_dimensional else array

    def input_values(self, x: NDArray[Any]) -> NDArray[Any]:
        return self._dequantised(x, "x")

    def output_values(self, y: NDArray[Any]) -> NDArray[Any]:
        return self._dequantised(y, "y")

    def representable(self, values: NDArray[Any]) -> Floats:
        zero_point, scale = self.constant("y_zero_point"), self.constant("y_scale")
        limits = np.iinfo(zero_point.dtype)
        low, high = limits.min - int(zero_point), limits.max - int(zero_point)
        return np.asarray(np.rint(np.clip(values / scale, low, high)) * scale, np.float32)

    def _dequantised(self, values: NDArray[Any], name: str) -> Floats:
        shifted = values.astype(np.float32) - self.constant(f"{name}_zero_point").astype(np.float32)
        return np.asarray(shifted * self.constant(f"{name}_scale"), np.float32)

    @property
    def weights(self) -> Floats:
        """What the weights stand for [M, Ic/group, kh, kw]."""
        scale, zero_point = (self.constant(f"w_{part}").reshape(-1, 1, 1, 1) for part in ("scale", "zero_point"))
        return np.asarray((super().weights - zero_point) * scale, np.float32)

    @property
    def biases(self) -> Floats:
        """What the bias stands for [M]."""
        return np.asarray(super().biases * self.constant("x_scale") * self.constant("w_scale"), np.float32)


@dataclass(frozen=True, kw_only=True)
class IntegerLayer(QuantisedLayer):
    """A convolution of bytes whose result is floats; its bias is floats, too."""

    operator: ClassVar[str] = "ReuseConvInteger"

    @property
    def types(self) -> tuple[int, int]:
        """Returns the element types of x and y."""
        return self._x_type, int(onnx.TensorProto.FLOAT)


@dataclass(frozen=True)
class Prepared:
    """A model whose convolutions are known: what plans are made for and carried out on, any number of them."""

    model: onnx.ModelProto
    """The model with functions that hold convolutions inlined; never changed."""
    view: GraphView
    layers: list[Layer]
    """Every Conv-like node in graph order, those of If and Loop bodies too."""
    bound: dict[str, tuple[int, ...]]
    """Concrete shapes of the inputs, for which layers have their sizes."""
    original: onnx.ModelProto
    """The model as it was given."""

    def with_shapes(self, shapes: Mapping[str, Sequence[int]]) -> Prepared:
        """Returns the same with the sizes of layers of the main graph that read tensors of these shapes."""
        return replace(
            self,
            layers=[
                replace(layer, spec=layer.spec.on(shapes[layer.input]))
                if isinstance(layer, ConvLayer) and layer.in_main and layer.input in shapes
                else layer
                for layer in self.layers
            ],
        )

    @cached_property
    def declarations(self) -> dict[ScopePath, dict[str, onnx.ValueInfoProto]]:
        """Type and shape of the model's tensors by the path of their graph, whatever sizes the inputs have."""
        return infer_declarations(self.model)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of the main graph's tensors for the sizes of `bound`."""
        return tensor_shapes(self.model, self.bound)

    @property
    def convolutions(self) -> dict[str, ConvLayer]:
        """The layers that reuse can compute, by name."""
        return {layer.name: layer for layer in self.layers if isinstance(layer, ConvLayer) and layer.refusal is None}
