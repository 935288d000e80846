"""Strategies for a converted model: their stages are its layers' candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor, nn

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.training.conversion import Conversion
from reuse_compiler.training.layer import ReuseConv2d, check_cluster_reuse, is_fitted
from reuse_compiler.training.loss_trend import TrendOptions
from reuse_compiler.training.refit import fit_to
from reuse_compiler.training.strategies import AdaptiveStrategy, ClusterReuseStrategy, FixedStrategy, Strategy

Number = Literal[1, 2, 3]
Stage = Mapping[str, LayerSettings | None]
"""Settings by layer; None: without reuse."""


def make_strategy(
    number: Number,
    model: nn.Module,
    conversion: Conversion,
    *,
    trend: TrendOptions | None = None,
    settings: Mapping[str, LayerSettings] | None = None,
    dense_last: bool = False,
    samples: Iterable[Tensor] = (),
) -> Strategy:
    """Returns one of the training paper's strategies for a model that `convert` has converted.

    Strategies 1 and 3 keep the layers' settings, or take `settings` at their beginning. Strategy 2 goes through the
    candidates of all layers together: at stage i each layer has its i-th candidate, or its last. With `dense_last` a
    further stage computes without reuse. Family `learned` needs `samples`, batches that trees are fitted to when
    settings change (later `HashRefit` keeps them up to date).
    """
    batches = list(samples)
    if number == 2:
        if settings is not None:
            raise ConfigError("strategy 2 chooses the settings itself: give settings to strategy 1 or 3 only")
        stages = stages_of(conversion, dense_last)
        return AdaptiveStrategy(
            len(stages), lambda stage: apply_stage(model, conversion.layers, stages[stage], batches), trend
        )
    if settings is not None:
        unknown = settings.keys() - conversion.layers.keys()
        if unknown:
            raise ConfigError(f"no layer with reuse is named {', '.join(sorted(unknown))}")
        apply_stage(model, conversion.layers, settings, batches)
    if number == 1:
        return FixedStrategy()
    if number == 3:
        for layer in conversion.layers.values():
            check_cluster_reuse(layer.settings)
        return ClusterReuseStrategy(lambda wanted: _set_cluster_reuse(conversion.layers, wanted), trend)
    raise ConfigError(f"there is no strategy {number}, only 1, 2 and 3")


def stages_of(conversion: Conversion, dense_last: bool = False) -> list[Stage]:
    """Returns the stages of strategy 2."""
    longest = max((len(own) for own in conversion.candidates.values()), default=0)
    stages: list[Stage] = [
        {name: own[min(stage, len(own) - 1)] for name, own in conversion.candidates.items()} for stage in range(longest)
    ]
    if dense_last or not stages:
        stages.append(dict.fromkeys(conversion.layers))
    return stages


def apply_stage(
    model: nn.Module, layers: Mapping[str, ReuseConv2d], stage: Stage, samples: Iterable[Tensor] = ()
) -> None:
    """Sets the layers of a stage; hashes that must be fitted are fitted to `samples`."""
    fitted: dict[str, LayerSettings] = {}
    for name, settings in stage.items():
        layer = layers[name]
        layer.reuse = settings is not None
        if settings is None or settings == layer.settings:
            continue
        if is_fitted(settings):
            fitted[name] = settings
        else:
            layer.set_settings(settings)
    if fitted:
        batches = list(samples)
        if not batches:
            raise ConfigError(
                "hashes that are fitted, as family 'learned' has them, need samples: give make_strategy some batches"
            )
        fit_to(model, layers, fitted, batches)


def _set_cluster_reuse(layers: Mapping[str, ReuseConv2d], wanted: bool) -> None:
    for layer in layers.values():
        layer.cluster_reuse = wanted
