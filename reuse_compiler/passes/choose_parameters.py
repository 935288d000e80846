"""Chooses how each legal convolution is rewritten, and declines those that the cost model expects to become slower."""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import fields

from reuse_compiler.errors import ConfigError
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.reuse.config import check_parameters, make_settings
from reuse_compiler.reuse.cost import expected_remaining_ratio, predicted_cost
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Blocking, ConvSpec, Layout
from reuse_compiler.reuse.policies import num_hashes_range
from reuse_compiler.reuse.seeds import layer_generator

logger = logging.getLogger(__name__)

DEFAULT_FAMILY = "sign"


class ChooseParameters(Pass):
    """Requires legal layers. Ensures settings, parameters and a reason for each layer that is left to rewrite.

    Raises ConfigError for a configuration that names unknown layers or settings that a layer cannot have.
    """

    def requires(self, context: PassContext) -> str | None:
        return None if context.layers is not None else "layers are missing"

    def run(self, context: PassContext) -> bool:
        if context.config is not None:
            _check_config(context)
        _warn_if_none_selected(context)
        for layer in context.chosen:
            layer.refusal = (
                _not_selected(layer, context.options) or _choose_settings(layer, context) or _too_dear(layer, context)
            )
        for layer in context.chosen:
            _check_table(layer, context.options)
            _choose_hash(layer, context)
        return False

    def ensures(self, context: PassContext) -> str | None:
        incomplete = [layer.name for layer in context.chosen if layer.settings is None or not layer.reason]
        return f"layers {incomplete} have no settings" if incomplete else None


def _check_config(context: PassContext) -> None:
    """Raises ConfigError for options that a configuration makes meaningless and for layers it names in vain."""
    assert context.config is not None
    options = context.options
    per_layer = {
        "--family": options.family,
        "-L": options.sub_vector_length,
        "-H": options.num_hashes,
        "--scope": options.scope,
        "--layout": None if options.layout == "auto" else options.layout,
        "--capacity": options.capacity,
        "--metric": options.metric,
        "--table": options.table,
    }
    given = [flag for flag, value in per_layer.items() if value is not None]
    if given:
        raise ConfigError(f"{' and '.join(given)} cannot be used with --config, which has settings for each layer")
    layers = {layer.name: layer for layer in context.layers or []}
    for name in context.config.layers:
        if name not in layers:
            close = difflib.get_close_matches(name, layers, n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"its layers are {list(layers)[:10]}"
            raise ConfigError(f"the configuration names layer '{name}', which the model does not have; {hint}")
        if layers[name].refusal is not None:
            logger.warning("layer '%s' of the configuration stays dense: %s", name, layers[name].refusal)


def _warn_if_none_selected(context: PassContext) -> None:
    pattern, names = context.options.layers, [layer.name for layer in context.layers or []]
    if pattern is not None and names and not any(re.search(pattern, name) for name in names):
        logger.warning("--layers '%s' matches no convolution; their names are %s", pattern, ", ".join(names[:10]))


def _not_selected(layer: ConvLayer, options: CompileOptions) -> str | None:
    if options.layers is not None and not re.search(options.layers, layer.name):
        return f"its name does not match --layers '{options.layers}'"
    if options.exclude is not None and re.search(options.exclude, layer.name):
        return f"its name matches --exclude '{options.exclude}'"
    return None


def _choose_settings(layer: ConvLayer, context: PassContext) -> str | None:
    """Fills in `layer.settings`; returns a refusal if there are none that fit."""
    if context.config is not None:
        settings = context.config.layers.get(layer.name)
        if settings is None:
            return "the configuration does not name it"
        problem = _too_long(settings.sub_vector_length, settings.layout, layer.spec)
        if problem is not None:
            raise ConfigError(f"layer '{layer.name}' of the configuration: {problem}")
        layer.settings, layer.reason = settings, "the configuration names it"
        return None
    return _default_settings(layer, context.options)


def _default_settings(layer: ConvLayer, options: CompileOptions) -> str | None:
    """Options where given; else the papers' choices without samples: L = channels, H by Policy 2, family sign."""
    family, spec = options.family or DEFAULT_FAMILY, layer.spec
    length = options.sub_vector_length or spec.group_in_channels
    layout: Layout = "channel" if options.layout == "auto" else options.layout
    if options.layout == "auto" and spec.group_in_channels % length:
        layout = "patch"
    problem = _too_long(length, layout, spec)
    if problem is not None:
        return problem
    num_hashes = 1 if FAMILIES[family].lossless else options.num_hashes
    if num_hashes is None:
        if not layer.spec.size_known:
            return "its input size is unknown, so H cannot be chosen: give -H (or --shape, if the inputs are dynamic)"
        num_hashes = num_hashes_range(spec.rows)[0]
    layer.settings = make_settings(
        family=family,
        layout=layout,
        L=length,
        H=min(num_hashes, FAMILIES[family].max_hashes) if options.num_hashes is None else num_hashes,
        scope=options.scope or "batch",
        capacity=options.capacity or 1.0,
        metric=options.metric or "euclidean",
        table=options.table or "float",
    )
    return None


def _too_long(length: int, layout: Layout, spec: ConvSpec) -> str | None:
    """Returns why a sub-vector length does not fit a layer, or None."""
    width = Blocking(spec, layout, 1).group_width
    if length <= width:
        return None
    what = "columns of its unfolded input (kh*kw*Ic)" if layout == "patch" else "channels of its input"
    per_group = " per group" if spec.group > 1 else ""
    return f"L={length} is larger than the {width} {what}{per_group} that layout '{layout}' cuts"


def _too_dear(layer: ConvLayer, context: PassContext) -> str | None:
    """Predicts the cost; returns a refusal if the layer would be slower and the user did not ask for it."""
    blocking, settings = layer.blocking, layer.settings
    assert blocking is not None and settings is not None
    if not layer.spec.size_known:
        layer.reason = layer.reason or "its settings are given; its cost is unknown without its input size"
        return None
    family = FAMILIES[settings.family]
    ratio, known = context.remaining_ratios.get(layer.name), "measured"
    if ratio is None:
        ratio, known = expected_remaining_ratio(blocking, family, settings.num_hashes), "at most"
    layer.cost = cost = predicted_cost(blocking, family, settings.num_hashes, ratio, table=settings.table)
    parts = ", ".join(f"{part.name} {getattr(cost, part.name):.2f}" for part in fields(cost))
    numbers = f"predicted cost {cost.total:.2f} of the dense convolution ({parts}; r_c {known} {ratio:.2g})"
    if context.config is None and cost.total >= 1.0 and not context.options.force:
        return f"{numbers}; --force rewrites it all the same"
    forced = cost.total >= 1.0 and context.config is None
    layer.reason = layer.reason or (f"forced: {numbers}" if forced else numbers)
    return None


def _check_table(layer: ConvLayer, options: CompileOptions) -> None:
    """Raises ConfigError for int8 tables in the staged form, whose tables are tensors of float32."""
    assert layer.settings is not None
    if layer.settings.table == "int8" and options.lowering == "staged":
        raise ConfigError(f"layer '{layer.name}': int8 tables need --lowering fused")


def _choose_hash(layer: ConvLayer, context: PassContext) -> None:
    """Takes the configuration's parameters, or draws random ones from the seed and the layer's name."""
    blocking, settings = layer.blocking, layer.settings
    assert blocking is not None and settings is not None
    given = context.fitted.parameters.get(layer.name)
    if given is None:
        rng = layer_generator(_seed(context), layer.name)
        family = FAMILIES[settings.family]
        try:
            given = family.random_parameters(rng, blocking.num_blocks, settings.sub_vector_length, settings.num_hashes)
        except ConfigError as error:
            raise ConfigError(f"layer '{layer.name}': {error}") from error
    check_parameters(given, settings, blocking, layer.name)
    layer.parameters = given


def _seed(context: PassContext) -> int:
    if context.config is not None and "seed" not in context.options.model_fields_set:
        return context.config.seed
    return context.options.seed
