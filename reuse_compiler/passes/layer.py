"""A model's convolution: what it is, whether it may be rewritten, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.graph.constants import Constant
from reuse_compiler.graph.view import NodeRef
from reuse_compiler.report import LayerReport
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.cost import Cost
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking, ConvSpec

Floats = NDArray[np.float32]
ActivationName = Literal["Relu", "Clip", "LeakyRelu"]


@dataclass(frozen=True)
class Activation:
    """An activation node that the rewritten layer takes in; `params` as docs/operators.md, Gather."""

    ref: NodeRef
    kind: ActivationName
    params: tuple[float, ...]


@dataclass(frozen=True)
class Normalization:
    """A BatchNormalization of the layer's result with constants: result * scale + shift, by output channel."""

    ref: NodeRef
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


@dataclass
class Layer:
    """A Conv-like node of a model, and why reuse leaves it as it is."""

    name: str
    ref: NodeRef
    normalization: Normalization | None = None
    activation: Activation | None = None
    refusal: str | None = None
    """Why it stays dense, as the sentence of the report; None as long as nothing speaks against rewriting it."""

    @property
    def proto(self) -> onnx.NodeProto:
        return self.ref.proto

    @property
    def taken_in(self) -> list[NodeRef]:
        """The node and those after it that the rewritten layer computes, too, in order."""
        after = (self.normalization, self.activation)
        return [self.ref, *(each.ref for each in after if each is not None)]

    @property
    def input(self) -> str:
        """The tensor that it reads."""
        return str(self.ref.node.inputs[0].name)

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

    def report(self) -> LayerReport:
        """Returns the layer's line of the report, without what only verification can measure."""
        return LayerReport(name=self.name, decision="dense", reason=self.refusal or "")


@dataclass(kw_only=True)
class ConvLayer(Layer):
    """A convolution that reuse can compute: its description and constants, and later how it is rewritten."""

    spec: ConvSpec
    weight: Constant
    bias: Constant | None
    settings: LayerSettings | None = None
    parameters: HashParameters = field(default_factory=HashParameters)
    cost: Cost | None = None
    reason: str = ""
    """Why it is rewritten."""

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

    @property
    def blocking(self) -> Blocking | None:
        """How the settings cut the layer into blocks."""
        return None if self.settings is None else self.settings.blocking(self.spec)

    def report(self) -> LayerReport:
        settings, spec = self.settings, self.spec
        return LayerReport(
            name=self.name,
            decision="reuse" if self.refusal is None else "dense",
            reason=self.reason if self.refusal is None else self.refusal,
            layout=settings.layout if settings else None,
            family=settings.family if settings else None,
            L=settings.sub_vector_length if settings else None,
            H=settings.num_hashes if settings else None,
            scope=settings.scope if settings else None,
            table=settings.table if settings else None,
            N=spec.rows if spec.size_known else None,
            K=spec.columns,
            M=spec.out_channels,
            predicted_cost=self.cost.total if self.cost else None,
        )
