"""What was fitted to samples, by layer, and the file beside a configuration that holds it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.plan import LayerWeights, Plan

HASH_PARAMETERS = tuple(name for name, _ in HashParameters().items())


WEIGHTS = ("weight", "bias")


@dataclass(frozen=True)
class Fitted:
    """Hash parameters and reconstructed weights by layer; one without gets random parameters and keeps its weights."""

    parameters: Mapping[str, HashParameters] = field(default_factory=dict)
    weights: Mapping[str, LayerWeights] = field(default_factory=dict)

    @staticmethod
    def of(plan: Plan) -> Fitted:
        """Returns what a plan's layers were fitted with."""
        weights = {name: layer.weights for name, layer in plan.items() if layer.weights is not None}
        return Fitted({name: layer.parameters for name, layer in plan.items()}, weights)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns all arrays as `<layer>/<name>`."""
        arrays = {
            f"{layer}/{name}": a for layer, p in self.parameters.items() for name, a in p.items() if a is not None
        }
        for layer, own in self.weights.items():
            arrays |= {f"{layer}/weight": own.weight, f"{layer}/bias": own.bias}
        return arrays

    def to_bytes(self) -> bytes:
        """Returns the contents of the .npz file; equal arrays give equal bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays())
        return buffer.getvalue()


def load_fitted(config: ReuseConfig, path: Path) -> Fitted:
    """Reads the `parameters_file` of the configuration that was read from `path`, beside which it lies.

    Raises ConfigError for a file that cannot be read and for arrays that belong to no layer.
    """
    if config.parameters_file is None:
        return Fitted()
    file = path.parent / config.parameters_file
    layers: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for key, array in _read(file, path).items():
        layer, _, name = key.rpartition("/")
        if name not in HASH_PARAMETERS + WEIGHTS:
            known = sorted(HASH_PARAMETERS + WEIGHTS)
            raise ConfigError(f"{file}: '{key}' must be '<layer>/<name>' with a name of {known}")
        if layer not in config.layers:
            raise ConfigError(f"{file}: '{key}' is for a layer that {path} does not name")
        with np.errstate(invalid="ignore"):
            typed = array.astype(np.int32 if name == "coordinates" else np.float32)
        if name == "coordinates" and not np.array_equal(typed, array):  # 2^32+3 would become 3
            raise ConfigError(f"{file}: '{key}' must hold integers of 32 bits")
        layers.setdefault(layer, {})[name] = typed
    hashes = {layer: _named(values, HASH_PARAMETERS) for layer, values in layers.items()}
    weights = {layer: _named(values, WEIGHTS) for layer, values in layers.items()}
    return Fitted(
        {layer: HashParameters(**values) for layer, values in hashes.items() if values},
        {layer: _weights(values, layer, file) for layer, values in weights.items() if values},
    )


def _read(file: Path, config: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the hash parameters {file} named by {config}: {error}") from error


def _named(values: dict[str, npt.NDArray[Any]], names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    return {name: value for name, value in values.items() if name in names}


def _weights(values: dict[str, npt.NDArray[Any]], layer: str, file: Path) -> LayerWeights:
    if len(values) < len(WEIGHTS):
        raise ConfigError(f"{file}: '{layer}/weight' and '{layer}/bias' must both be given")
    return LayerWeights(**values)
