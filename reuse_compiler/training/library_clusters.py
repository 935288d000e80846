"""Clusters in the operator library's memory: forward and backward pass by its kernels, on the tensors' own memory."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.training.capi import Convolution, Hashing, last_error, training_library
from reuse_compiler.training.clusters import Gradients, InputClusters


class LibraryClusters(InputClusters):
    """Clusters of a float32 tensor on the CPU; the library's memory is given back with this object."""

    def __init__(
        self, x: Tensor, blocking: Blocking, settings: LayerSettings, parameters: HashParameters, keep_codes: bool
    ) -> None:
        super().__init__(blocking)
        pixel_major = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        self._format = torch.channels_last if pixel_major else torch.contiguous_format
        # The kernels read windows (layout patch) from planes only, but write either.
        self._input_format = self._format if blocking.layout == "channel" else torch.contiguous_format
        self._shape, self._int8 = x.shape, settings.table == "int8"
        own = x.detach().contiguous(memory_format=self._input_format)
        library = training_library()
        convolution = _convolution(
            blocking, self._input_format is torch.channels_last, self._format is torch.channels_last
        )
        # `hashing` holds addresses only; `parameters` keeps the arrays alive during the call.
        hashing = _hashing(settings, parameters, keep_codes)
        handle = library.reuse_cluster(
            ctypes.byref(convolution), ctypes.byref(hashing), own.data_ptr(), torch.get_num_threads()
        )
        if not handle:
            raise ConfigError(f"the input cannot be clustered: {last_error()}")
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
        g = self.blocking.geometry
        y = torch.empty(g.batch, g.out_channels, g.out_height, g.out_width, memory_format=self._format)
        weight = weight.detach().contiguous()
        bias = None if bias is None else bias.detach().contiguous()
        self._check(
            training_library().reuse_forward(
                self._handle, weight.data_ptr(), _address(bias), int(self._int8), y.data_ptr(), torch.get_num_threads()
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
                _address(grad_weight),
                _address(grad_x),
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
            raise ConfigError(f"the operator library cannot compute this layer: {last_error()}")


def _convolution(blocking: Blocking, pixel_major_input: bool, pixel_major_output: bool) -> Convolution:
    g = blocking.geometry
    return Convolution(
        batch=g.batch,
        in_channels=g.in_channels,
        in_height=g.in_height,
        in_width=g.in_width,
        out_channels=g.out_channels,
        kernel=g.kernel,
        strides=g.strides,
        pads=g.pads,
        dilations=g.dilations,
        group=g.group,
        sub_vector_length=blocking.sub_vector_length,
        patch=int(blocking.layout == "patch"),
        pixel_major_input=int(pixel_major_input),
        pixel_major_output=int(pixel_major_output),
    )


def _hashing(settings: LayerSettings, parameters: HashParameters, keep_codes: bool) -> Hashing:
    hashing = Hashing(
        family=settings.family.encode(),
        num_hashes=settings.num_hashes,
        scope_image=int(settings.scope == "image"),
        metric_angular=int(settings.metric == "angular"),
        capacity=settings.capacity,
        keep_codes=int(keep_codes),
    )
    for name, array in parameters.items():
        setattr(hashing, name, None if array is None else array.ctypes.data)
        setattr(hashing, f"{name}_size", -1 if array is None else array.size)
    return hashing


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
