"""Clusters in the operator library's memory: forward and backward pass by its kernels, on the tensors' own memory."""

from __future__ import annotations

import weakref
from collections.abc import Hashable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.runtime.capi import convolution_of
from reuse_compiler.runtime.clustering import ClusteringPlan
from reuse_compiler.training.clusters import Gradients, InputClusters
from reuse_compiler.training.shapes import memory_formats

_plans: dict[int, dict[Hashable, ClusteringPlan]] = {}
"""By the identity of the hash's parameters, which are frozen, for as long as these live."""


def plan_of(
    blocking: Blocking,
    settings: LayerSettings,
    parameters: HashParameters,
    keep_codes: bool,
    pixel_major: tuple[bool, bool],
) -> ClusteringPlan:
    """Returns the plan of a layer, the same for all inputs as long as its parameters stay the same object."""
    if id(parameters) not in _plans:
        weakref.finalize(parameters, _plans.pop, id(parameters), None).atexit = False
    plans = _plans.setdefault(id(parameters), {})
    convolution = convolution_of(blocking, *pixel_major)
    convolution.batch = convolution.in_height = convolution.in_width = 0
    key = (bytes(convolution), settings, keep_codes)
    plan = plans.get(key)
    if plan is None:
        plan = plans[key] = ClusteringPlan(blocking, settings, parameters, keep_codes, *pixel_major)
    return plan


class LibraryClusters(InputClusters):
    """Clusters of a float32 tensor on the CPU; the library works on the tensors' memory, and they on the library's."""

    def __init__(
        self, x: Tensor, blocking: Blocking, settings: LayerSettings, parameters: HashParameters, keep_codes: bool
    ) -> None:
        super().__init__(blocking)
        self._input_format, self._format = memory_formats(x, blocking)
        self._shape, self._int8 = x.shape, settings.table == "int8"
        pixel_major = tuple(order is torch.channels_last for order in (self._input_format, self._format))
        plan = plan_of(blocking, settings, parameters, keep_codes, (pixel_major[0], pixel_major[1]))
        own = x.detach().contiguous(memory_format=self._input_format)
        self._own = plan.clusters(_memory_of(own, self._input_format), torch.get_num_threads())

    @property
    def ids(self) -> Tensor:
        return torch.from_numpy(self._own.ids)

    def centroids(self, block: int) -> Tensor:
        return torch.from_numpy(self._own.centroids(block))

    def members(self, block: int) -> Tensor:
        return torch.from_numpy(self._own.members(block))

    def codes(self, block: int) -> Tensor:
        return torch.from_numpy(self._own.codes(block))

    @property
    def count(self) -> int:
        return sum(self._own.counts())

    def forward(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        g = self.blocking.spec
        y = torch.empty(g.batch, g.out_channels, g.out_height, g.out_width, memory_format=self._format)
        own_bias = None if bias is None else _memory_of(bias)
        output = _memory_of(y, self._format)
        self._own.forward(_memory_of(weight), own_bias, self._int8, torch.get_num_threads(), output)
        return y

    def backward(self, weight: Tensor, grad_y: Tensor, for_weight: bool, for_x: bool) -> Gradients:
        grad_y = grad_y.contiguous(memory_format=self._format)
        grad_weight = torch.empty(weight.shape) if for_weight else None
        grad_x = torch.empty(self._shape, memory_format=self._input_format) if for_x else None
        self._own.backward(
            _memory_of(weight),
            _memory_of(grad_y, self._format),
            None if grad_weight is None else _memory_of(grad_weight),
            None if grad_x is None else _memory_of(grad_x, self._input_format),
            torch.get_num_threads(),
        )
        return Gradients(grad_weight, grad_x)


def _memory_of(tensor: Tensor, order: torch.memory_format = torch.contiguous_format) -> NDArray[np.float32]:
    """Returns an array on a tensor's memory, with its axes in the order in which they lie there."""
    own = tensor.detach()
    return (own.permute(0, 2, 3, 1) if order is torch.channels_last else own).numpy()
