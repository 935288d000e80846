"""What a pass is, and what passes share: the model being rewritten and what is known about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from reuse_compiler.errors import PassError
from reuse_compiler.graph.constants import ConstantFinder
from reuse_compiler.graph.shapes import ShapeTable
from reuse_compiler.graph.view import GraphView
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import ConvLayer, Layer
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.fitted import Fitted


@dataclass
class PassContext:
    """The model (a copy that passes may change), the user's choices, and what earlier passes found out."""

    model: onnx.ModelProto
    original: onnx.ModelProto
    """The model as it was given; never changed."""
    options: CompileOptions
    config: ReuseConfig | None = None
    fitted: Fitted = field(default_factory=Fitted)
    remaining_ratios: Mapping[str, float] = field(default_factory=dict)
    """r_c by layer where it was measured with the same settings; elsewhere the cost model takes a bound."""
    view: GraphView = field(init=False)
    """The model's graphs; LowerToReuse leaves it behind."""
    constants: ConstantFinder = field(init=False)
    shapes: ShapeTable | None = None
    bound: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Concrete shapes of the inputs, for which parameters are chosen."""
    pixel_major: dict[str, str] = field(default_factory=dict)
    """By name in the original: the tensor that holds the same pixel-major in the rewritten main graph."""
    layers: list[Layer] | None = None
    """Every Conv-like node, in graph order; None before MatchConvolutions."""

    def __post_init__(self) -> None:
        self.read_graphs()

    def read_graphs(self) -> None:
        """Renews the view after the model has changed."""
        self.view = GraphView(self.model)
        self.constants = ConstantFinder(self.view)

    @property
    def chosen(self) -> list[ConvLayer]:
        """The layers to rewrite."""
        return [layer for layer in self.layers or [] if isinstance(layer, ConvLayer) and layer.refusal is None]


class Pass(ABC):
    """A small promise: what it requires of the context, what it does, what it ensures afterwards."""

    @property
    def name(self) -> str:
        return type(self).__name__

    def requires(self, context: PassContext) -> str | None:
        """Returns None, or the sentence that says which precondition does not hold."""
        return None

    @abstractmethod
    def run(self, context: PassContext) -> bool:
        """Does the work; returns whether it changed the model."""

    def ensures(self, context: PassContext) -> str | None:
        """Returns None, or the sentence that says which postcondition does not hold."""
        return None


def run_passes(passes: Sequence[Pass], context: PassContext) -> bool:
    """Runs passes in order and checks their promises; returns whether any changed the model."""
    modified = False
    for each in passes:
        violation = each.requires(context)
        if violation is not None:
            raise PassError(f"pass {each.name} cannot run: {violation}")
        modified |= each.run(context)
        violation = each.ensures(context)
        if violation is not None:
            raise PassError(f"pass {each.name} broke its promise: {violation}")
    return modified
