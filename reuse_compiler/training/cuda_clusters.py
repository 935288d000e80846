"""Clusters, forward and backward pass of float32 CUDA tensors by the library's CUDA kernels.

The library allocates nothing and waits for nothing: memory is PyTorch's, and kernels run on its current stream. One
number per block is waited for, that of its clusters, since the memory for centroids depends on it.
"""

from __future__ import annotations

import ctypes
import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.runtime.capi import (
    CudaExecution,
    DeviceClusters,
    address_of,
    convolution_of,
    cuda_layer_library,
    hashing_of,
)
from reuse_compiler.runtime.library import last_error
from reuse_compiler.training.clusters import Gradients, InputClusters
from reuse_compiler.training.shapes import memory_formats


class CudaClusters(InputClusters):
    """Clusters as tensors on the device of the input. (Tests give CPU tensors to the kernels built for the host.)"""

    def __init__(
        self, x: Tensor, blocking: Blocking, settings: LayerSettings, parameters: HashParameters, keep_codes: bool
    ) -> None:
        super().__init__(blocking)
        self._library = cuda_layer_library()
        self._shape, self._device = x.shape, x.device
        self._input_format, self._format = memory_formats(x, blocking)
        pixel_major = [order is torch.channels_last for order in (self._input_format, self._format)]
        self._convolution = convolution_of(blocking, *pixel_major)
        own = x.detach().contiguous(memory_format=self._input_format)
        on_device = {
            name: None if array is None else torch.tensor(array, device=x.device) for name, array in parameters.items()
        }
        layer = (ctypes.byref(self._convolution), ctypes.byref(hashing_of(settings, on_device, keep_codes)))
        codes = self._empty(blocking.num_blocks, blocking.vectors, dtype=torch.int64)
        self._ids = torch.empty_like(codes, dtype=torch.int32)
        self._counts = self._empty(blocking.num_blocks, dtype=torch.int32)
        numbering = self._memory("number", *layer)
        self._call("number", *layer, self._execution(), own, codes, self._ids, self._counts, numbering)
        self._codes = codes if keep_codes else None
        self._count_of: list[int] = self._counts.tolist()
        rows = max(self._count_of)
        self._centroids = self._empty(blocking.num_blocks, rows, blocking.sub_vector_length)
        numbered = (own, self._ids, self._counts, numbering)
        memory = self._memory("average", *layer, rows)
        self._call("average", *layer, self._execution(), *numbered, rows, self._centroids, memory)

    @property
    def ids(self) -> Tensor:
        return self._ids

    def centroids(self, block: int) -> Tensor:
        return self._centroids[block, : self._count_of[block]]

    def members(self, block: int) -> Tensor:
        return self._order[1][block].diff()[: self._count_of[block]]

    def codes(self, block: int) -> Tensor:
        assert self._codes is not None, "codes were not to be kept"
        order, starts = self._order
        first_members = order[block][starts[block][: self._count_of[block]].long()]
        return self._codes[block][first_members.long()]

    @property
    def count(self) -> int:
        return sum(self._count_of)

    def forward(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        g = self.blocking.spec
        y = self._empty(g.batch, g.out_channels, g.out_height, g.out_width, memory_format=self._format)
        weight = weight.detach().contiguous()
        bias = None if bias is None else bias.detach().contiguous()
        memory = self._memory("forward", ctypes.byref(self._convolution), self._rows)
        self._call("forward", *self._with_clusters(), weight, bias, y, memory)
        return y

    def backward(self, weight: Tensor, grad_y: Tensor, for_weight: bool, for_x: bool) -> Gradients:
        weight, grad_y = weight.detach().contiguous(), grad_y.contiguous(memory_format=self._format)
        grad_weight = torch.empty_like(weight) if for_weight else None
        grad_x = self._empty(*self._shape, memory_format=self._input_format) if for_x else None
        memory = self._memory("backward", ctypes.byref(self._convolution), self._rows)
        self._call("backward", *self._with_clusters(*self._order), weight, grad_y, grad_weight, grad_x, memory)
        return Gradients(grad_weight, grad_x)

    @property
    def _rows(self) -> int:
        return self._centroids.shape[1]

    @functools.cached_property
    def _order(self) -> tuple[Tensor, Tensor]:
        """The vectors of each block by cluster, int32 `[B, V]`, and where clusters begin there, `[B, rows + 1]`."""
        ascending, order = self._ids.sort(dim=1, stable=True)
        clusters = torch.arange(self._rows + 1, dtype=torch.int32, device=self._device)
        wanted = clusters.expand(self.blocking.num_blocks, -1).contiguous()
        return order.int(), torch.searchsorted(ascending, wanted, out_int32=True)

    def _with_clusters(self, *order: Tensor) -> tuple[Any, Any, Any]:
        """What forward and backward pass begin with: the convolution, its clusters, and how kernels run."""
        arrays = (self._ids, self._counts, self._centroids, *order)
        clusters = DeviceClusters(self._rows, *map(address_of, arrays))
        return ctypes.byref(self._convolution), ctypes.byref(clusters), self._execution()

    def _execution(self) -> Any:
        if self._device.type != "cuda":
            return ctypes.byref(CudaExecution(None, 0))
        stream = torch.cuda.current_stream(self._device).cuda_stream
        return ctypes.byref(CudaExecution(stream, int(_allows_tf32())))

    def _empty(self, *shape: int, **options: Any) -> Tensor:
        return torch.empty(shape, device=self._device, **options)

    def _memory(self, name: str, *arguments: Any) -> Tensor:
        """The bytes that a call asks for. When it has been enqueued PyTorch may give them to what comes later."""
        size: int = getattr(self._library, f"reuse_cuda_{name}_bytes")(*arguments)
        if size < 0:
            raise self._failure()
        return self._empty(size, dtype=torch.uint8)

    def _call(self, name: str, *arguments: Any) -> None:
        """Enqueues a call on the device; of tensors it gets the address."""
        own = [address_of(argument) if isinstance(argument, Tensor) else argument for argument in arguments]
        with self._on_device():
            status = getattr(self._library, f"reuse_cuda_{name}")(*own)
        if status != 0:
            raise self._failure()

    def _failure(self) -> ConfigError:
        return ConfigError(f"the operator library cannot compute this layer: {last_error(self._library)}")

    def _on_device(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()


def _allows_tf32() -> bool:
    """Returns whether PyTorch's own convolutions may round their operands to TF32."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if convolutions is None:  # PyTorch before 2.9
        return bool(torch.backends.cudnn.allow_tf32)
    return bool(convolutions.fp32_precision == "tf32")
