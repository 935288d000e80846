"""Chooses how each legal convolution is rewritten, and declines those that the cost model expects to become slower."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from reuse_compiler.errors import ConfigError
from reuse_compiler.flags import refuse
from reuse_compiler.options import PER_LAYER, CompileOptions
from reuse_compiler.passes.layer import ConvLayer, Layer, QuantisedLayer, Refusal
from reuse_compiler.report import LayerReport
from reuse_compiler.reuse.config import (
    DEFAULT_MEMORY,
    MOST_STATIC_HASHES,
    FamilyName,
    LayerSettings,
    ReuseConfig,
    make_settings,
)
from reuse_compiler.reuse.cost import CHANGED_SHARE, STREAM, Cost, Prices, expected_remaining_ratio, predicted_cost
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.geometry import Blocking, ConvSpec, Layout
from reuse_compiler.reuse.plan import NO_CENTROIDS, LayerPlan, Plan, incremental, within_memory
from reuse_compiler.reuse.policies import num_hashes_range
from reuse_compiler.reuse.seeds import layer_generator

logger = logging.getLogger(__name__)

DEFAULT_FAMILY: FamilyName = "exact"
LARGEST_COST_AT_BEST = 0.7
"""What a lossless layer of which nothing was measured may cost where everything repeats, to be tried."""
SIZE_HELP = "give the sizes of the model's inputs with --shape, or inputs to measure it on with --verify-data"
FORCE = "--force rewrites it all the same"
MEASURE = "--verify-data measures r_c on your inputs"
"""Of a layer that reuse could make faster, if less were left than the largest r_c that is taken without data."""


@dataclass(frozen=True)
class Decision:
    """What becomes of a Conv-like node, and why."""

    layer: Layer
    reason: str
    """The sentence of the report."""
    plan: LayerPlan | None = None
    """None: it stays dense."""
    settings: LayerSettings | None = None
    """Those of the plan, or those that were declined."""
    cost: Cost | None = None
    """Expected of these settings, where the input's size is known."""

    def report(self) -> LayerReport:
        """Returns the layer's line of the report, without what only verification can measure."""
        line = LayerReport(name=self.layer.name, decision="dense" if self.plan is None else "reuse", reason=self.reason)
        if isinstance(self.layer, ConvLayer):
            spec = self.layer.spec
            line.N, line.K, line.M = spec.rows if spec.size_known else None, spec.columns, spec.out_channels
        if self.settings is not None:
            line.layout, line.family, line.scope = self.settings.layout, self.settings.family, self.settings.scope
            line.L, line.H = self.settings.sub_vector_length, self.settings.num_hashes
            lossless = FAMILIES[self.settings.family].lossless
            line.table = "int32" if isinstance(self.layer, QuantisedLayer) and lossless else self.settings.table
        if self.plan is not None and self.plan.settings.scope == "static":
            line.table_bytes, line.keeps_tables = self.plan.table_bytes, self.plan.keep_tables
        if self.plan is not None:
            line.incremental = self.plan.incremental
        if self.cost is not None:
            line.predicted_cost = self.cost.total
        return line


def plan_of(decisions: Sequence[Decision]) -> Plan:
    """Returns what was decided of the layers that are rewritten."""
    return {each.layer.name: each.plan for each in decisions if each.plan is not None}


def choose_parameters(
    layers: Sequence[Layer],
    options: CompileOptions,
    config: ReuseConfig | None,
    fitted: Fitted,
    remaining_ratios: Mapping[str, float],
) -> list[Decision]:
    """Decides for every layer, in their order.

    `fitted` has hash parameters and weights of the layers that `config` names; other hashes are drawn at random.
    `remaining_ratios` are r_c by layer where they were measured; elsewhere the cost model takes the largest possible.
    Raises ConfigError for a configuration that names unknown layers or settings that a layer cannot have.
    """
    if config is not None:
        _check_config(layers, options, config)
    elif options.scope == "static":
        raise ConfigError(NO_CENTROIDS)
    warn_if_none_selected(layers, options.layers)
    decisions = [_decide(layer, options, config, fitted, remaining_ratios.get(layer.name)) for layer in layers]
    plan = within_memory(plan_of(decisions), options.table_memory * 2**20)
    if options.stream:
        plan = incremental(plan)
        if plan and not any(layer.incremental for layer in plan.values()):
            logger.warning(
                "--stream changes nothing: no layer is quantised, or static with int8 tables that are kept between runs"
            )
    return [replace(decision, plan=plan.get(decision.layer.name)) for decision in decisions]


def _check_config(layers: Sequence[Layer], options: CompileOptions, config: ReuseConfig) -> None:
    """Raises ConfigError for options that a configuration makes meaningless and for layers it names in vain."""
    refuse(options, PER_LAYER)
    by_name = {layer.name: layer for layer in layers}
    for name in config.layers:
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"its layers are {list(by_name)[:10]}"
            raise ConfigError(f"the configuration names layer '{name}', which the model does not have; {hint}")
        if by_name[name].refusal is not None:
            logger.warning("layer '%s' of the configuration stays dense: %s", name, by_name[name].refusal)


def warn_if_none_selected(layers: Sequence[Layer], pattern: str | None) -> None:
    """Tells of a pattern of --layers that matches no layer, with the names that there are."""
    names = [layer.name for layer in layers]
    if pattern is not None and names and not any(re.search(pattern, name) for name in names):
        logger.warning("--layers '%s' matches no convolution; their names are %s", pattern, ", ".join(names[:10]))


def not_selected(name: str, layers: str | None, exclude: str | None) -> str | None:
    """Returns why the patterns of --layers and --exclude leave a layer of that name as it is, or None."""
    if layers is not None and not re.search(layers, name):
        return f"its name does not match --layers '{layers}'"
    if exclude is not None and re.search(exclude, name):
        return f"its name matches --exclude '{exclude}'"
    return None


def _decide(
    layer: Layer, options: CompileOptions, config: ReuseConfig | None, fitted: Fitted, ratio: float | None
) -> Decision:
    refusal = layer.refusal or not_selected(layer.name, options.layers, options.exclude)
    if refusal is not None or not isinstance(layer, ConvLayer):
        return Decision(layer, refusal or "")
    try:
        settings = _default_settings(layer.spec, options) if config is None else _configured(layer, config)
        if isinstance(layer, QuantisedLayer):
            _check_quantised(layer, settings, options)
    except Refusal as refused:
        return Decision(layer, str(refused))
    streams = options.stream and layer.spec.gives_bytes and not settings.averages_runs
    at_best = ratio is None and (options.guarded or options.single) and FAMILIES[settings.family].lossless
    at_best &= not streams
    if streams:
        cost, numbers = _weigh(layer.spec, settings, CHANGED_SHARE, "for what changes taken to be", STREAM)
    else:
        cost, numbers = _weigh(layer.spec, settings, 0.0 if at_best else ratio, "at best" if at_best else "measured")
    pays = cost is not None and cost.total < (LARGEST_COST_AT_BEST if at_best else 1.0)
    if config is not None:
        reason = "the configuration names it"
    elif not pays and not options.force:
        unknown = ratio is None and not (at_best or streams)
        may_pay = unknown and cost is not None and cost.least < 1.0
        advice = f"{MEASURE}, {FORCE}" if may_pay else FORCE
        return Decision(layer, f"{numbers}; {advice}", settings=settings, cost=cost)
    else:
        reason = numbers if pays else f"forced: {numbers}"
    if settings.table == "int8" and options.lowering == "staged":
        raise ConfigError(f"layer '{layer.name}': int8 tables need --lowering fused")
    parameters = fitted.parameters.get(layer.name)
    if parameters is None:
        parameters = _random_hash(layer, settings, options, config)
    weights, centroids = fitted.weights.get(layer.name), fitted.centroids.get(layer.name)
    plan = LayerPlan(layer.spec, settings, parameters, weights, centroids)
    plan.check(layer.name)
    return Decision(layer, reason, plan, settings, cost)


def _check_quantised(layer: QuantisedLayer, settings: LayerSettings, options: CompileOptions) -> None:
    """Raises Refusal for settings that the operators of bytes do not have."""
    if options.lowering == "staged":
        raise Refusal("it is quantised, and reuse of bytes needs --lowering fused")
    covers = "it is quantised, and without static clusters reuse of bytes covers"
    if settings.scope == "session":
        raise Refusal(
            f"{covers} the scopes batch and image, not 'session', whose tables grow: the scale of their int8 entries "
            "would have to be known before the clusters are"
        )
    if FAMILIES[settings.family].lossless:
        if settings.table != "float" or settings.capacity != 1.0:
            raise Refusal(
                "it is quantised, and lossless reuse of bytes has integer tables of its own: leave table and capacity "
                "off"
            )
        return
    problem = problem_with_codes(layer.spec, settings)
    if problem is not None:
        raise Refusal(f"it is quantised, and clusters of bytes by code {problem}")


def problem_with_codes(spec: ConvSpec, settings: LayerSettings) -> str | None:
    """Returns what a quantised layer that is hashed needs and these settings do not have, or None."""
    if not spec.gives_bytes:
        return "need a result that is quantised, too"
    if settings.layout != "channel" or settings.table != "int8":
        return "cover layout channel and table int8"
    if settings.num_hashes > MOST_STATIC_HASHES:
        return f"cover codes of at most {MOST_STATIC_HASHES} bits, not {settings.num_hashes}: give another -H"
    if settings.metric != "euclidean" or settings.capacity != 1.0:
        return "are all of them shared, with their members' means: leave metric and capacity off"
    return None


def _configured(layer: ConvLayer, config: ReuseConfig) -> LayerSettings:
    settings = config.layers.get(layer.name)
    if settings is None:
        raise Refusal("the configuration does not name it")
    problem = _too_long(settings.sub_vector_length, settings.layout, layer.spec)
    if problem is not None:
        raise ConfigError(f"layer '{layer.name}' of the configuration: {problem}")
    return settings


def _default_settings(spec: ConvSpec, options: CompileOptions) -> LayerSettings:
    """Options where given; else L = channels, H by Policy 2 of the papers, and a family that loses nothing."""
    family = options.family or DEFAULT_FAMILY
    if FAMILIES[family].lossless and options.num_hashes is not None:
        raise ConfigError(f"the family {family} has no hash functions to count: give --family sign with -H")
    length = options.sub_vector_length or spec.group_in_channels
    layout: Layout = "channel" if options.layout == "auto" else options.layout
    if options.layout == "auto" and spec.group_in_channels % length:
        layout = "patch"
    problem = _too_long(length, layout, spec)
    if problem is not None:
        raise Refusal(problem)
    num_hashes = 1 if FAMILIES[family].lossless else options.num_hashes
    if num_hashes is None:
        if not spec.size_known:
            raise Refusal(
                f"its input size is unknown, so H cannot be chosen: {SIZE_HELP}; with -H and --force it is rewritten "
                "all the same"
            )
        num_hashes = num_hashes_range(spec.rows)[0]
    return make_settings(
        family=family,
        layout=layout,
        L=length,
        H=min(num_hashes, FAMILIES[family].max_hashes) if options.num_hashes is None else num_hashes,
        scope=options.scope or "batch",
        capacity=options.capacity or 1.0,
        metric=options.distance or "euclidean",
        table=options.table or "float",
        memory=DEFAULT_MEMORY if options.memory is None else options.memory,
    )


def _too_long(length: int, layout: Layout, spec: ConvSpec) -> str | None:
    """Returns why a sub-vector length does not fit a layer, or None."""
    width = Blocking(spec, layout, 1).group_width
    if length <= width:
        return None
    what = "columns of its unfolded input (kh*kw*Ic)" if layout == "patch" else "channels of its input"
    per_group = " per group" if spec.group > 1 else ""
    return f"L={length} is larger than the {width} {what}{per_group} that layout '{layout}' cuts"


def _weigh(
    spec: ConvSpec, settings: LayerSettings, ratio: float | None, known: str, prices: Prices | None = None
) -> tuple[Cost | None, str]:
    """Returns the expected cost, None for an input of unknown size, and a sentence about it.

    `known` says in words how `ratio` is known; where it is not, the largest possible is taken.
    """
    if not spec.size_known:
        return None, f"its input size is unknown, and so is its cost: {SIZE_HELP}"
    blocking, family = settings.blocking(spec), FAMILIES[settings.family]
    if ratio is None:
        ratio, known = expected_remaining_ratio(blocking, family, settings.num_hashes), "at most"
    cost = predicted_cost(
        blocking, family, settings.num_hashes, ratio, prices=prices, table=settings.table, scope=settings.scope
    )
    parts = ", ".join(f"{part.name} {getattr(cost, part.name):.2f}" for part in fields(cost))
    words = f"predicted cost {cost.total:.2f} of the dense convolution ({parts}; r_c {known} {ratio:.3g})"
    if known == "at most" and cost.least >= 1.0:
        words += f", {cost.least:.2f} even if all vectors were equal"
    return cost, words


def _random_hash(
    layer: ConvLayer, settings: LayerSettings, options: CompileOptions, config: ReuseConfig | None
) -> HashParameters:
    """Draws parameters from the seed and the layer's name; a configuration's seed counts unless one is asked for."""
    seed = options.seed if config is None or "seed" in options.model_fields_set else config.seed
    blocks, length = settings.blocking(layer.spec).num_blocks, settings.sub_vector_length
    try:
        return FAMILIES[settings.family].random_parameters(
            layer_generator(seed, layer.name), blocks, length, settings.num_hashes
        )
    except ConfigError as error:
        raise ConfigError(f"layer '{layer.name}': {error}") from error
