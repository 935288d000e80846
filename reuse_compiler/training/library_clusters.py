"""Clusters in the operator library's memory: forward and backward pass by its kernels, on the tensors' own memory."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.runtime.library import last_error
from reuse_compiler.training.capi import (
    Convolution,
    address_of,
    convolution_of,
    hashing_of,
    memory_formats,
    training_library,
)
from reuse_compiler.training.clusters import Gradients, InputClusters


class LayerPlan:
    """A `reuse_plan`: what the library has made ready of a layer's convolution and hash, for inputs of any size."""

    def __init__(
        self, convolution: Convolution, settings: LayerSettings, parameters: HashParameters, keep_codes: bool
    ) -> None:
        library = training_library()
        hashing = hashing_of(settings, dict(parameters.items()), keep_codes)
        self.handle = library.reuse_plan_create(ctypes.byref(convolution), ctypes.byref(hashing))
        if not self.handle:
            raise ConfigError(f"the layer's settings make no sense to the operator library: {last_error(library)}")
        weakref.finalize(self, library.reuse_plan_destroy, self.handle).atexit = False


_plans: dict[int, dict[Hashable, LayerPlan]] = {}
"""By the identity of the hash's parameters, which are frozen, for as long as these live."""


def plan_of(
    convolution: Convolution, settings: LayerSettings, parameters: HashParameters, keep_codes: bool
) -> LayerPlan:
    """Returns the plan of a layer, the same for all inputs as long as its parameters stay the same object."""
    if id(parameters) not in _plans:
        weakref.finalize(parameters, _plans.pop, id(parameters), None).atexit = False
    plans = _plans.setdefault(id(parameters), {})
    convolution.batch = convolution.in_height = convolution.in_width = 0
    key = (bytes(convolution), settings, keep_codes)
    plan = plans.get(key)
    if plan is None:
        plan = plans[key] = LayerPlan(convolution, settings, parameters, keep_codes)
    return plan


class LibraryClusters(InputClusters):
    """Clusters of a float32 tensor on the CPU; the library's memory is given back with this object."""

    def __init__(
        self, x: Tensor, blocking: Blocking, settings: LayerSettings, parameters: HashParameters, keep_codes: bool
    ) -> None:
        super().__init__(blocking)
        self._input_format, self._format = memory_formats(x, blocking)
        self._shape, self._int8 = x.shape, settings.table == "int8"
        own = x.detach().contiguous(memory_format=self._input_format)
        g, library = blocking.spec, training_library()
        plan = plan_of(convolution_of(blocking, self._input_format, self._format), settings, parameters, keep_codes)
        size = (g.batch, g.in_height, g.in_width)
        handle = library.reuse_cluster(plan.handle, *size, own.data_ptr(), torch.get_num_threads())
        if not handle:
            raise ConfigError(f"the input cannot be clustered: {last_error(library)}")
        self._handle = handle
        weakref.finalize(self, library.reuse_clusters_free, handle).atexit = False

    @property
    def ids(self) -> Tensor:
        address = training_library().reuse_clusters_ids(self._handle)
        return self._view(address, (self.blocking.num_blocks, self.blocking.vectors), np.int32)

    def centroids(self, block: int) -> Tensor:
        count, address, _ = self._block(block)
        return self._view(address, (count, self.blocking.sub_vector_length), np.float32)

    def members(self, block: int) -> Tensor:
        count, _, address = self._block(block)
        return self._view(address, (count,), np.int32)

    def codes(self, block: int) -> Tensor:
        return self._view(
            training_library().reuse_clusters_codes(self._handle, block), (self._block(block)[0],), np.int64
        )

    @property
    def count(self) -> int:
        return sum(self._block(block)[0] for block in range(self.blocking.num_blocks))

    def forward(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        g = self.blocking.spec
        y = torch.empty(g.batch, g.out_channels, g.out_height, g.out_width, memory_format=self._format)
        weight = weight.detach().contiguous()
        bias = None if bias is None else bias.detach().contiguous()
        self._check(
            training_library().reuse_forward(
                self._handle,
                weight.data_ptr(),
                address_of(bias),
                int(self._int8),
                y.data_ptr(),
                torch.get_num_threads(),
            )
        )
        return y

    def backward(self, weight: Tensor, grad_y: Tensor, for_weight: bool, for_x: bool) -> Gradients:
        weight, grad_y = weight.detach().contiguous(), grad_y.contiguous(memory_format=self._format)
        grad_weight = torch.empty_like(weight) if for_weight else None
        grad_x = torch.empty(self._shape, memory_format=self._input_format) if for_x else None
        self._check(
            training_library().reuse_backward(
                self._handle,
                weight.data_ptr(),
                grad_y.data_ptr(),
                address_of(grad_weight),
                address_of(grad_x),
                torch.get_num_threads(),
            )
        )
        return Gradients(grad_weight, grad_x)

    def _block(self, block: int) -> tuple[int, int | None, int | None]:
        centroids, members = ctypes.c_void_p(), ctypes.c_void_p()
        count = training_library().reuse_clusters_block(
            self._handle, block, ctypes.byref(centroids), ctypes.byref(members)
        )
        assert count >= 0, block
        return count, centroids.value, members.value

    def _view(self, address: int | None, shape: Sequence[int], kind: type[np.generic]) -> Tensor:
        """A tensor on the library's memory, which stays as long as the tensor does."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        if size == 0 or address is None:
            return torch.from_numpy(np.empty(shape, kind))
        memory: Any = (ctypes.c_byte * size).from_address(address)
        memory.owner = self
        return torch.from_numpy(np.frombuffer(memory, kind).reshape(shape))

    def _check(self, result: int) -> None:
        if result != 0:
            raise ConfigError(f"the operator library cannot compute this layer: {last_error(training_library())}")
