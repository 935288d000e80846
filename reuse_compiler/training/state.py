"""Checkpoints of what the state_dict of a converted model leaves out: settings and hash parameters of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import make_settings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import CENTROIDS
from reuse_compiler.training.conversion import reuse_layers


def reuse_state(model: nn.Module) -> dict[str, Any]:
    """Returns settings, hash parameters and flags by layer, in types that `torch.load(weights_only=True)` reads.

    What cluster reuse remembers of earlier batches is left out: it is made anew within a few steps.
    """
    return {
        name: {
            "settings": layer.settings.model_dump(by_alias=True),
            "hash": {
                key: torch.from_numpy(array.copy())
                for key, array in [*layer.parameters_of_hash.items(), (CENTROIDS, layer.plan.centroids)]
                if array is not None
            },
            "reuse": layer.reuse,
            "cluster_reuse": layer.cluster_reuse,
        }
        for name, layer in reuse_layers(model).items()
    }


def load_reuse_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Sets the layers of a converted model to what `reuse_state` gave; raises ConfigError for other layers."""
    layers = reuse_layers(model)
    if layers.keys() != state.keys():
        raise ConfigError(f"the state is of layers {sorted(state)}, the model has reuse in {sorted(layers)}")
    for name, own in state.items():
        layer = layers[name]
        layer.cluster_reuse = False
        arrays = {key: value.cpu().numpy() for key, value in own["hash"].items()}
        centroids = arrays.pop(CENTROIDS, None)
        layer.set_settings(make_settings(**own["settings"]), HashParameters(**arrays), centroids)
        layer.reuse, layer.cluster_reuse = own["reuse"], own["cluster_reuse"]
