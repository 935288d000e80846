"""A plan: which convolutions of a model reuse computes and how, before anything is rewritten.

Compiling, calibration and a configuration file each make one; `pipeline.apply_plan` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.reuse.static_tables import table_bytes

NO_CENTROIDS = (
    "scope static needs centroids: reuse-calibrate --scope static finds them, "
    "and reuse-compile --config takes its result"
)


@dataclass(frozen=True)
class LayerWeights:
    """Weights `[M, Ic/group, kh, kw]` (as the model's Conv has them) and bias `[M]` that replace the model's."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


@dataclass(frozen=True)
class LayerPlan:
    """How reuse computes one convolution."""

    spec: ConvSpec
    settings: LayerSettings
    parameters: HashParameters
    weights: LayerWeights | None = None
    """Those that were fitted for reuse; None: the model's own."""
    centroids: npt.NDArray[np.float32] | None = None
    """Those of scope static [B, 2^H, L], by code; None with another scope."""
    keep_tables: bool = True
    """Whether scope static keeps its tables between runs."""
    incremental: bool = False
    """Whether sums or results are kept between runs, and only what has changed is computed: see `incremental`."""

    @property
    def table_bytes(self) -> int:
        """What the tables of scope static take, kept or not; 0 with another scope."""
        return table_bytes(self.spec, self.settings)

    @property
    def can_be_incremental(self) -> bool:
        """Whether what a run computes is of integers, so that the next one can go on from it to the same bits."""
        if self.settings.scope == "static":
            return self.keep_tables and self.settings.keeps_exact_sums
        return self.spec.gives_bytes and not self.settings.averages_runs

    def check(self, layer: str) -> None:
        """Raises ConfigError, naming the layer, unless all arrays fit the settings and the convolution."""
        check_parameters(self.parameters, self.settings, self.settings.blocking(self.spec), layer)
        self._check_centroids(layer)
        if self.weights is None:
            return
        shape = self.spec.weight_shape
        for name, array, expected in (
            ("weight", self.weights.weight, shape),
            ("bias", self.weights.bias, shape[:1]),
        ):
            if array.shape != expected:
                raise ConfigError(f"layer '{layer}': '{name}' has shape {array.shape}, expected {expected}")
            if not np.isfinite(array).all():
                raise ConfigError(f"layer '{layer}': '{name}' has values that are not finite")

    def _check_centroids(self, layer: str) -> None:
        settings, centroids = self.settings, self.centroids
        if settings.scope != "static":
            if centroids is not None:
                raise ConfigError(f"layer '{layer}': scope '{settings.scope}' takes no centroids, only 'static' does")
            return
        if centroids is None:
            raise ConfigError(f"layer '{layer}': {NO_CENTROIDS}")
        expected = (settings.blocking(self.spec).num_blocks, 2**settings.num_hashes, settings.sub_vector_length)
        if centroids.shape != expected:
            raise ConfigError(f"layer '{layer}': 'centroids' has shape {centroids.shape}, expected {expected}")
        if not np.isfinite(centroids).all():
            raise ConfigError(f"layer '{layer}': 'centroids' has values that are not finite")


Plan = Mapping[str, LayerPlan]
"""The plan of each layer by its name; convolutions without an entry stay dense."""


def within_memory(plan: Plan, memory: int) -> Plan:
    """Returns the plan with the static tables of those layers kept that `memory` bytes hold, in their order."""
    result = {}
    for name, layer in plan.items():
        kept = layer.table_bytes <= memory
        memory -= layer.table_bytes if kept else 0
        result[name] = replace(layer, keep_tables=kept)
    return result


def incremental(plan: Plan) -> Plan:
    """Returns the plan for a stream of inputs that are much alike: all layers that can go on from their last run do."""
    return {name: replace(layer, incremental=layer.can_be_incremental) for name, layer in plan.items()}


def check_parameters(parameters: HashParameters, settings: LayerSettings, blocking: Blocking, layer: str) -> None:
    """Raises ConfigError unless `parameters` has the arrays, shapes and coordinate range that the family needs."""
    family = FAMILIES[settings.family]
    blocks, length = blocking.num_blocks, settings.sub_vector_length
    required = family.parameter_shapes(blocks, length, settings.num_hashes)
    allowed = required | family.optional_parameter_shapes(blocks, length)
    for name, array in parameters.items():
        if array is None:
            if name in required:
                raise ConfigError(f"layer '{layer}': family '{family.name}' needs the parameter '{name}'")
        elif name not in allowed:
            raise ConfigError(f"layer '{layer}': family '{family.name}' takes no parameter '{name}'")
        elif array.shape != allowed[name]:
            raise ConfigError(f"layer '{layer}': '{name}' has shape {array.shape}, expected {allowed[name]}")
    coordinates = parameters.coordinates
    if coordinates is not None and coordinates.size and (coordinates.min() < 0 or coordinates.max() >= length):
        raise ConfigError(f"layer '{layer}': split coordinates must lie in 0..{length - 1}")
