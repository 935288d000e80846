"""What was fitted to samples, by layer, and the file beside a configuration that holds it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reuse_compiler.array_files import read_named_arrays
from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.paths import AnyPath
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.plan import LayerWeights, Plan

HASH_PARAMETERS = tuple(name for name, _ in HashParameters().items())


WEIGHTS = ("weight", "bias")
CENTROIDS = "centroids"
KNOWN = (*HASH_PARAMETERS, *WEIGHTS, CENTROIDS)
"""What a file may hold of a layer."""


@dataclass(frozen=True)
class Fitted:
    """Hash parameters, reconstructed weights and centroids of scope static by layer.

    One without gets random parameters and keeps its weights.
    """

    parameters: Mapping[str, HashParameters] = field(default_factory=dict)
    weights: Mapping[str, LayerWeights] = field(default_factory=dict)
    centroids: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @staticmethod
    def of(plan: Plan) -> Fitted:
        """Returns what a plan's layers were fitted with."""
        weights = {name: layer.weights for name, layer in plan.items() if layer.weights is not None}
        centroids = {name: layer.centroids for name, layer in plan.items() if layer.centroids is not None}
        return Fitted({name: layer.parameters for name, layer in plan.items()}, weights, centroids)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns all arrays as `<layer>/<name>`."""
        arrays = {
            f"{layer}/{name}": a for layer, p in self.parameters.items() for name, a in p.items() if a is not None
        }
        for layer, own in self.weights.items():
            arrays |= {f"{layer}/weight": own.weight, f"{layer}/bias": own.bias}
        return arrays | {f"{layer}/{CENTROIDS}": own for layer, own in self.centroids.items()}

    def to_bytes(self) -> bytes:
        """Returns the contents of the .npz file; equal arrays give equal bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays())
        return buffer.getvalue()


def fitted_files(config: ReuseConfig, path: AnyPath) -> set[Path]:
    """Returns the file that a configuration read from `path` names, if it names one."""
    return set() if config.parameters_file is None else {Path(path).parent / config.parameters_file}


def load_fitted(config: ReuseConfig, path: AnyPath) -> Fitted:
    """Reads the `parameters_file` of the configuration that was read from `path`, beside which it lies.

    Raises ConfigError for a file that cannot be read and for arrays that belong to no layer.
    """
    if config.parameters_file is None:
        return Fitted()
    (file,) = fitted_files(config, path)
    layers: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for key, array in _read(file, path).items():
        layer, _, name = key.rpartition("/")
        if name not in KNOWN:
            raise ConfigError(f"{file}: '{key}' must be '<layer>/<name>' with a name of {sorted(KNOWN)}")
        if layer not in config.layers:
            raise ConfigError(f"{file}: '{key}' is for a layer that {path} does not name")
        layers.setdefault(layer, {})[name] = _as_numbers(array, name, f"{file}: '{key}'")
    hashes = {layer: _named(values, HASH_PARAMETERS) for layer, values in layers.items()}
    weights = {layer: _named(values, WEIGHTS) for layer, values in layers.items()}
    return Fitted(
        {layer: HashParameters(**values) for layer, values in hashes.items() if values},
        {layer: _weights(values, layer, file) for layer, values in weights.items() if values},
        {layer: values[CENTROIDS] for layer, values in layers.items() if CENTROIDS in values},
    )


def _read(file: Path, config: AnyPath) -> dict[str, npt.NDArray[Any]]:
    try:
        return read_named_arrays(file)
    except DataError as error:
        raise ConfigError(f"cannot read the hash parameters named by {config}: {error}") from error


def _as_numbers(array: npt.NDArray[Any], name: str, where: str) -> npt.NDArray[Any]:
    """Returns the array in the type of its kind; raises ConfigError for what is no number, or none of that type."""
    wanted = np.dtype(HashParameters.element(name))
    if array.dtype.kind not in "iuf":
        raise ConfigError(f"{where} holds {array.dtype}, and must hold {wanted}")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(wanted)
    if np.isnan(converted).any():  # unlike infinity, which a threshold may be: all vectors lie below it
        raise ConfigError(f"{where} holds NaN, which no vector can be compared with")
    if wanted.kind == "i" and not np.array_equal(converted, array):
        raise ConfigError(f"{where} has numbers that are no {wanted}")
    return converted


def _named(values: dict[str, npt.NDArray[Any]], names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    return {name: value for name, value in values.items() if name in names}


def _weights(values: dict[str, npt.NDArray[Any]], layer: str, file: Path) -> LayerWeights:
    if len(values) < len(WEIGHTS):
        raise ConfigError(f"{file}: '{layer}/weight' and '{layer}/bias' must both be given")
    return LayerWeights(**values)
