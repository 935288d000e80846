"""The compiler proper: finding a model's convolutions, choosing a plan for them, and carrying a plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from reuse_compiler.graph.constants import ConstantFinder
from reuse_compiler.graph.shapes import bind_shapes, infer_shapes
from reuse_compiler.graph.view import GraphView
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.check_legality import check_legality
from reuse_compiler.passes.check_result import check_result
from reuse_compiler.passes.choose_parameters import Decision, choose_parameters, plan_of
from reuse_compiler.passes.inline_functions import inline_functions
from reuse_compiler.passes.keep_pixel_major import keep_pixel_major
from reuse_compiler.passes.layer import Prepared
from reuse_compiler.passes.lower_to_reuse import Rewritten, lower_to_reuse
from reuse_compiler.passes.match_convolutions import match_convolutions
from reuse_compiler.passes.record_settings import record_settings
from reuse_compiler.report import LayerReport
from reuse_compiler.reuse.config import Lowering, ReuseConfig
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.plan import Plan


@dataclass(frozen=True)
class Lowered:
    """A model compiled, and what was decided of its layers."""

    rewritten: Rewritten
    """The result; its model is the very model that was given if nothing was rewritten."""
    decisions: Sequence[Decision]
    """Of every Conv-like node of the model in graph order, those of If/Loop bodies too."""
    outputs: dict[str, str]
    """By rewritten layer of the main graph: the tensor that holds its result in the original, and in the rewritten
    model unless that is pixel-major."""
    modified: bool
    bound: dict[str, tuple[int, ...]]
    """Concrete input shapes for which parameters were chosen."""
    guarded: onnx.ModelProto | None = None
    """The model in which regions have two forms, if there are any; `rewritten` is then the form with reuse alone."""

    @property
    def layers(self) -> list[LayerReport]:
        """A line of the report for each decision."""
        return [decision.report() for decision in self.decisions]

    @property
    def model(self) -> onnx.ModelProto:
        """The result."""
        return self.guarded or self.rewritten.model


def find_layers(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Prepared:
    """Returns the model with its Conv-like nodes; `shapes` are those of inputs that it leaves open.

    `model` is not changed. Raises ConfigError for shapes that do not fit its inputs.
    """
    inlined = inline_functions(model)
    view = GraphView(inlined)
    bound = bind_shapes(inlined, shapes or {})
    inferred = infer_shapes(inlined, bound)
    constants = ConstantFinder(view, inferred)
    layers = [check_legality(layer, constants, inferred) for layer in match_convolutions(view, constants)]
    return Prepared(inlined, view, layers, bound, model)


def apply_plan(
    prepared: Prepared,
    plan: Plan,
    lowering: Lowering = "fused",
    *,
    keep_order: bool = False,
    fallback: bool = False,
) -> Rewritten:
    """Returns a copy of the model with the planned layers lowered, checked against the model it came from.

    With `keep_order` it has all tensors of the original as they were, without any that is pixel-major; with `fallback`
    it runs without the operator library, too. An empty plan gives the very model. Raises PassError for a result that is
    wrong in itself.
    """
    if not plan:
        return Rewritten(prepared.model)
    result = lower_to_reuse(prepared, plan, lowering, dense_inputs=fallback)
    if not keep_order:
        model, renamed = keep_pixel_major(result.model)
        result = replace(result, model=model, pixel_major=renamed)
    if fallback:
        add_function_bodies(result.model)
    check_result(prepared.model, result.model, len(plan))
    return result


def lower(
    model: onnx.ModelProto,
    options: CompileOptions,
    config: ReuseConfig | None = None,
    fitted: Fitted | None = None,
    remaining_ratios: Mapping[str, float] | None = None,
) -> Lowered:
    """Finds the convolutions of `model`, which is not changed, chooses a plan and carries it out.

    `fitted` holds hash parameters and weights of the layers that `config` names. `remaining_ratios` are measured r_c by
    layer; without, the cost model takes the largest that is possible. Raises ConfigError for settings that
    do not fit the model.
    """
    prepared = find_layers(model, options.shapes)
    decisions = choose_parameters(prepared.layers, options, config, fitted or Fitted(), remaining_ratios or {})
    return carry_out(prepared, decisions, options)


def carry_out(prepared: Prepared, decisions: Sequence[Decision], options: CompileOptions) -> Lowered:
    """Returns the model as it was decided, any number of times; the settings are recorded in it."""
    plan = plan_of(decisions)
    result = Rewritten(prepared.original)
    if plan:
        result = apply_plan(prepared, plan, options.lowering, fallback=options.fallback)
        record_settings(result.model, plan, options)
    # Tensors of inlined functions exist in the rewritten model only, so that there is nothing to compare them with.
    original = {name for node in prepared.original.graph.node for name in node.output}
    chosen = [layer for name, layer in prepared.convolutions.items() if name in plan]
    return Lowered(
        rewritten=result,
        decisions=decisions,
        outputs={layer.name: layer.output for layer in chosen if layer.in_main and layer.output in original},
        modified=bool(plan),
        bound=prepared.bound,
    )
