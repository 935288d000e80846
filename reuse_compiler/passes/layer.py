"""A convolution on its way through the passes: what it is, whether it may be rewritten, and how."""

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
from reuse_compiler.reuse.geometry import AutoPad, Blocking, ConvGeometry

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


@dataclass(frozen=True)
class ConvAttributes:
    """A Conv's attributes with ONNX's defaults filled in, lifted to two dimensions if it has one."""

    kernel_shape: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    """As written (begin h, begin w, end h, end w); meaningless unless `auto_pad` is NOTSET."""
    dilations: tuple[int, int]
    group: int
    auto_pad: AutoPad
    one_dimensional: bool


@dataclass
class Layer:
    """A Conv-like node. Passes fill in the fields in the order in which they stand here."""

    name: str
    ref: NodeRef
    normalization: Normalization | None = None
    activation: Activation | None = None
    refusal: str | None = None
    """Why it stays dense, as the sentence of the report; None as long as nothing speaks against rewriting it."""

    weight: Constant | None = None
    bias: Constant | None = None
    attributes: ConvAttributes | None = None
    geometry: ConvGeometry | None = None
    """With the sizes of the bound shapes; batch, height and width are 0 where they are not known."""

    settings: LayerSettings | None = None
    parameters: HashParameters = field(default_factory=HashParameters)
    cost: Cost | None = None
    reason: str = ""
    """Why it is rewritten."""

    @property
    def proto(self) -> onnx.NodeProto:
        return self.ref.proto

    @property
    def taken_in(self) -> list[NodeRef]:
        """The node and those after it that the rewritten layer computes, too, in order."""
        after = (self.normalization, self.activation)
        return [self.ref, *(each.ref for each in after if each is not None)]

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

    @property
    def blocking(self) -> Blocking | None:
        """How the settings cut the layer into blocks."""
        if self.geometry is None or self.settings is None:
            return None
        return Blocking(self.geometry, self.settings.layout, self.settings.sub_vector_length)

    @property
    def size_known(self) -> bool:
        """Whether batch, height and width of the input are known."""
        return self.geometry is not None and self.geometry.in_height > 0

    def report(self) -> LayerReport:
        """Returns the layer's line of the report, without what only verification can measure."""
        settings, geometry = self.settings, self.geometry
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
            N=geometry.rows if geometry and self.size_known else None,
            K=geometry.columns if geometry else None,
            M=geometry.out_channels if geometry else None,
            predicted_cost=self.cost.total if self.cost else None,
        )
