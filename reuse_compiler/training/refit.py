"""Hashes fitted to the data while training runs: trees (or thresholds) of layers, from samples of recent batches."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from reuse_compiler.errors import DataError
from reuse_compiler.fitting.hashes import HashFitter, VectorSampler
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.plan import LayerPlan
from reuse_compiler.training.distributed import from_first_rank
from reuse_compiler.training.evaluation import evaluating, trying
from reuse_compiler.training.layer import ReuseConv2d
from reuse_compiler.training.shapes import spec_of

FIT_VECTORS = 16_384
"""Neuron vectors per block that hashes are fitted to, at most."""


def array_of(tensor: Tensor) -> NDArray[np.float32]:
    """Returns a tensor's values as fitting takes them."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def fit_layer(layer: ReuseConv2d, settings: LayerSettings, inputs: Iterable[Tensor], seed: int = 0) -> None:
    """Sets settings of a layer, with their hash and centroids fitted to its inputs; all ranks get the first one's."""
    plan = from_first_rank(_fitted(layer, settings, inputs, seed))
    layer.set_settings(plan.settings, plan.parameters, plan.centroids)


def _fitted(layer: ReuseConv2d, settings: LayerSettings, inputs: Iterable[Tensor], seed: int) -> LayerPlan:
    """Returns what is fitted to inputs `[N, Ic, H, W]` (which may differ in N)."""
    batches = list(inputs)
    if not batches:
        raise DataError(f"layer '{layer.layer_name}' has seen no input yet, so its hash cannot be fitted")
    spec = spec_of(layer, batches[0].shape)
    sampler = VectorSampler(layer.layer_name, spec, settings.layout, FIT_VECTORS, len(batches), seed)
    for x in batches:
        if x.shape[0] == spec.batch:  # unlike the last, smaller batch of an epoch
            sampler.add(array_of(x))
    return HashFitter(sampler.sample(), array_of(layer.weight)).plan(settings)


def fit_to(
    model: nn.Module,
    layers: Mapping[str, ReuseConv2d],
    settings: Mapping[str, LayerSettings],
    batches: Iterable[Tensor],
    seed: int = 0,
) -> None:
    """Sets `settings` and fits their hashes to what the model leaves the layers as inputs, one after the other.

    `layers` are in the order of execution; each is fitted with the reuse of those before it on. The model runs in its
    present mode; running statistics of batch normalisation do not change.
    """
    batches = list(batches)
    for name, own in settings.items():
        layer = layers[name]
        fit_layer(layer, own, inputs_of(model, layer, batches, trying), seed)


def inputs_of(
    model: nn.Module,
    layer: nn.Module,
    batches: Iterable[Tensor],
    mode: Callable[[nn.Module], AbstractContextManager[None]] = evaluating,
) -> list[Tensor]:
    """Returns what a layer reads when the model runs on each of the batches."""
    found: list[Tensor] = []

    def take(module: nn.Module, inputs: Any) -> None:
        found.append(inputs[0].detach())
        raise _Reached

    handle = layer.register_forward_pre_hook(take)
    try:
        with mode(model):
            for batch in batches:
                try:
                    model(batch)
                except _Reached:
                    continue
    finally:
        handle.remove()
    return found


class _Reached(Exception):
    """Ends a forward pass where its purpose is reached."""


class HashRefit:
    """Fits the hashes of layers anew every so often, to the inputs of the last few batches.

    Call `step()` after each training step. With `every` = 100 and `batches` = 4, the inputs of steps 25, 50, 75 and 100
    are kept (one layer's at most `FIT_VECTORS` vectors matter, whole inputs are held), then fitted to. In distributed
    training all ranks get the hashes of the first one.
    """

    def __init__(self, layers: Mapping[str, ReuseConv2d], every: int = 200, batches: int = 2, seed: int = 0) -> None:
        if every < 1 or batches < 1:
            raise DataError(f"every is {every} and batches {batches}, both must be at least 1")
        self._layers, self._every, self._seed = dict(layers), every, seed
        self._gap = max(1, math.ceil(every / batches))
        self._kept: dict[str, deque[Tensor]] = {name: deque(maxlen=batches) for name in layers}
        self._steps = 0
        self._handles = [
            layer.register_forward_pre_hook(lambda module, inputs, name=name: self._keep(name, module, inputs[0]))
            for name, layer in self._layers.items()
        ]

    def step(self) -> bool:
        """Counts a training step; returns whether hashes were fitted."""
        self._steps += 1
        if self._steps % self._every:
            return False
        for name, layer in self._layers.items():
            if layer.reuse and self._kept[name]:
                fit_layer(layer, layer.settings, self._kept[name], self._seed + self._steps)
            self._kept[name].clear()
        return True

    def close(self) -> None:
        """Stops watching the layers."""
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> dict[str, int]:
        """Returns how many steps there were."""
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes on from there."""
        self._steps = state["steps"]

    def _keep(self, name: str, module: nn.Module, x: Tensor) -> None:
        if module.training and (self._steps + 1) % self._gap == 0:
            self._kept[name].append(x.detach())
