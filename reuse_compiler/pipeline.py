"""The compiler proper: the list of passes that turns a model into one with reuse convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.base import Pass, PassContext, run_passes
from reuse_compiler.passes.check_legality import CheckLegality
from reuse_compiler.passes.check_result import CheckResult
from reuse_compiler.passes.choose_parameters import ChooseParameters
from reuse_compiler.passes.fold_constants import FoldConstants
from reuse_compiler.passes.fold_normalizations import FoldNormalizations
from reuse_compiler.passes.infer_shapes import InferShapes
from reuse_compiler.passes.inline_functions import InlineFunctions
from reuse_compiler.passes.keep_pixel_major import KeepPixelMajor
from reuse_compiler.passes.layer import Layer
from reuse_compiler.passes.lower_to_reuse import LowerToReuse
from reuse_compiler.passes.match_convolutions import MatchConvolutions
from reuse_compiler.passes.record_settings import RecordSettings
from reuse_compiler.passes.replace_weights import ReplaceWeights
from reuse_compiler.report import LayerReport
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.fitted import Fitted

FIND_LAYERS: tuple[Pass, ...] = (
    InlineFunctions(),
    FoldConstants(),
    InferShapes(),
    MatchConvolutions(),
    CheckLegality(),
    FoldNormalizations(),
)
PASSES: tuple[Pass, ...] = (
    *FIND_LAYERS,
    ChooseParameters(),
    ReplaceWeights(),
    LowerToReuse(),
    KeepPixelMajor(),
    RecordSettings(),
    CheckResult(),
)


@dataclass
class Lowered:
    """Result of the passes."""

    model: onnx.ModelProto
    """The rewritten model, or the very model that was given if nothing was rewritten."""
    layers: list[LayerReport]
    """Every Conv-like node of the model in graph order, those of If/Loop bodies too."""
    outputs: dict[str, str]
    """By rewritten layer of the main graph: the tensor that holds its result in the original, and in the rewritten
    model unless `pixel_major` names another."""
    pixel_major: dict[str, str]
    """By tensor of the original: the one that holds the same in the rewritten model, but in the order NHWC."""
    modified: bool
    bound: dict[str, tuple[int, ...]]
    """Concrete input shapes for which parameters were chosen."""


def lower(
    model: onnx.ModelProto,
    options: CompileOptions,
    config: ReuseConfig | None = None,
    fitted: Fitted | None = None,
    remaining_ratios: Mapping[str, float] | None = None,
) -> Lowered:
    """Rewrites the convolutions of `model`, which is not changed, and tells for each what was decided and why.

    `fitted` holds hash parameters and weights of the layers that `config` names. `remaining_ratios` are measured r_c by
    layer; without, the cost model takes the largest that is possible. Raises ConfigError for settings that
    do not fit the model.
    """
    context = PassContext(_copy(model), model, options, config, fitted or Fitted(), remaining_ratios or {})
    run_passes(PASSES, context)
    layers = context.layers or []
    # Tensors of inlined functions exist in the rewritten model only, so that there is nothing to compare them with.
    original = {name for node in model.graph.node for name in node.output}
    return Lowered(
        model=context.model if context.chosen else model,
        layers=[layer.report() for layer in layers],
        outputs={layer.name: layer.output for layer in context.chosen if layer.in_main and layer.output in original},
        pixel_major=context.pixel_major,
        modified=bool(context.chosen),
        bound=context.bound,
    )


def find_layers(model: onnx.ModelProto, options: CompileOptions) -> tuple[onnx.ModelProto, list[Layer]]:
    """Returns the model as the passes see it before they rewrite it, and its Conv-like nodes in graph order.

    A layer has a refusal, or weights, attributes and geometry; no settings yet. `model` is not changed.
    """
    context = PassContext(_copy(model), model, options)
    run_passes(FIND_LAYERS, context)
    return context.model, context.layers or []


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
