"""The library's kernels for one layer on NumPy arrays: clusters of an input, forward and backward pass from them."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import FamilyName, LayerSettings, make_settings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import CENTROIDS
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.runtime import capi
from reuse_compiler.runtime.library import last_error

Floats = NDArray[np.float32]


class ClusteringPlan:
    """A `reuse_plan`: what the library has made ready of a layer's convolution and hash, for inputs of any size.

    With `pixel_major_input` inputs are `[N, H, W, Ic]` (layout channel only), else `[N, Ic, H, W]`; likewise outputs.
    """

    def __init__(
        self,
        blocking: Blocking,
        settings: LayerSettings,
        parameters: HashParameters,
        keep_codes: bool = False,
        pixel_major_input: bool = False,
        pixel_major_output: bool = False,
        centroids: Floats | None = None,
    ) -> None:
        self.blocking, self.keep_codes = blocking, keep_codes
        self.pixel_major_input, self.pixel_major_output = pixel_major_input, pixel_major_output
        own = {
            name: None if array is None else np.ascontiguousarray(array, HashParameters.element(name))
            for name, array in [*parameters.items(), (CENTROIDS, centroids)]
        }
        convolution = capi.convolution_of(blocking, pixel_major_input, pixel_major_output)
        hashing, library = capi.hashing_of(settings, own, keep_codes), capi.layer_library()
        self._handle = library.reuse_plan_create(ctypes.byref(convolution), ctypes.byref(hashing))
        if not self._handle:
            raise ConfigError(f"the layer's settings make no sense to the operator library: {last_error(library)}")
        weakref.finalize(self, library.reuse_plan_destroy, self._handle).atexit = False

    def clusters(self, x: Floats, threads: int = 1) -> Clusters:
        """Clusters the neuron vectors of an input of any batch, height and width."""
        channels = self.blocking.spec.in_channels
        if x.ndim != 4 or x.shape[3 if self.pixel_major_input else 1] != channels:
            order = "[N, H, W, channels]" if self.pixel_major_input else "[N, channels, H, W]"
            raise ConfigError(f"an input of shape {list(x.shape)} is not {order} of {channels} channels")
        batch, height, width = (x.shape[axis] for axis in ((0, 1, 2) if self.pixel_major_input else (0, 2, 3)))
        spec = self.blocking.spec.on((batch, channels, height, width))
        if spec.pads != self.blocking.spec.pads:
            raise ConfigError(f"on an input of shape {list(x.shape)} the convolution has other pads than in its plan")
        own, library = np.ascontiguousarray(x, np.float32), capi.layer_library()
        handle = library.reuse_cluster(self._handle, batch, height, width, own.ctypes.data, threads)
        if not handle:
            raise ConfigError(f"the input cannot be clustered: {last_error(library)}")
        return Clusters(self, replace(self.blocking, spec=spec), handle)


class Clusters:
    """Those of one input. Its arrays lie in the memory of a `reuse_clusters`, which stays as long as they do."""

    def __init__(self, plan: ClusteringPlan, blocking: Blocking, handle: int) -> None:
        self.blocking, self._plan, self._handle = blocking, plan, handle
        weakref.finalize(self, capi.layer_library().reuse_clusters_free, handle).atexit = False

    @property
    def ids(self) -> NDArray[np.int32]:
        """The cluster of every vector, `[B, V]`."""
        address = capi.layer_library().reuse_clusters_ids(self._handle)
        return self._view(address, (self.blocking.num_blocks, self.blocking.vectors), np.int32)

    def centroids(self, block: int) -> Floats:
        """The centroids `[C, L]` of a block; what is written to them is used by forward and backward pass."""
        count, address, _ = self._block(block)
        return self._view(address, (count, self.blocking.sub_vector_length), np.float32)

    def members(self, block: int) -> NDArray[np.int32]:
        """How many vectors each of a block's clusters has, `[C]`."""
        count, _, address = self._block(block)
        return self._view(address, (count,), np.int32)

    def codes(self, block: int) -> NDArray[np.int64]:
        """The code of each of a block's clusters, `[C]`; only of a plan that keeps codes."""
        if not self._plan.keep_codes:
            raise ConfigError("the codes of clusters were not to be kept: make the plan with keep_codes")
        address = capi.layer_library().reuse_clusters_codes(self._handle, block)
        return self._view(address, (self._block(block)[0],), np.int64)

    def counts(self) -> list[int]:
        """How many clusters each block has."""
        return [self._block(block)[0] for block in range(self.blocking.num_blocks)]

    def all_centroids(self) -> Floats:
        """Returns a copy of the centroids of all blocks, `[B, Cmax, L]`."""
        return stacked([self.centroids(block) for block in range(self.blocking.num_blocks)])

    def forward(
        self, weight: Floats, bias: Floats | None = None, int8: bool = False, threads: int = 1, y: Floats | None = None
    ) -> Floats:
        """Returns (in `y`, if given) the output of the convolution with every vector replaced by its centroid."""
        y = np.empty(self._output_shape, np.float32) if y is None else y
        own = [_given(weight, self._weight_shape), None if bias is None else _given(bias, self._weight_shape[:1])]
        addresses = [*map(capi.address_of, own), int(int8), _written(y, self._output_shape)]
        self._call("reuse_forward", *addresses, threads)
        return y

    def backward(
        self, weight: Floats, grad_y: Floats, grad_weight: Floats | None, grad_x: Floats | None, threads: int = 1
    ) -> None:
        """Writes the gradients that are wanted, by Eq. 8-10 and 13-18 of the training paper."""
        own = [_given(weight, self._weight_shape), _given(grad_y, self._output_shape)]
        wanted = [_written(grad_weight, self._weight_shape), _written(grad_x, self._input_shape)]
        self._call("reuse_backward", *map(capi.address_of, own), *wanted, threads)

    @property
    def _weight_shape(self) -> tuple[int, ...]:
        spec = self.blocking.spec
        return (spec.out_channels, spec.group_in_channels, *spec.kernel)

    @property
    def _input_shape(self) -> tuple[int, ...]:
        spec = self.blocking.spec
        return _ordered(self._plan.pixel_major_input, spec.batch, spec.in_channels, spec.in_height, spec.in_width)

    @property
    def _output_shape(self) -> tuple[int, ...]:
        spec = self.blocking.spec
        return _ordered(self._plan.pixel_major_output, spec.batch, spec.out_channels, spec.out_height, spec.out_width)

    def _call(self, name: str, *arguments: Any) -> None:
        library = capi.layer_library()
        if getattr(library, name)(self._handle, *arguments) != 0:
            raise ConfigError(f"the operator library cannot compute this layer: {last_error(library)}")

    def _block(self, block: int) -> tuple[int, int | None, int | None]:
        centroids, members = ctypes.c_void_p(), ctypes.c_void_p()
        pointers = (ctypes.byref(centroids), ctypes.byref(members))
        count = capi.layer_library().reuse_clusters_block(self._handle, block, *pointers)
        if count < 0:
            raise IndexError(f"there is no block {block}")
        return count, centroids.value, members.value

    def _view(self, address: int | None, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        if size == 0 or address is None:
            return np.empty(shape, kind)
        memory: Any = (ctypes.c_byte * size).from_address(address)
        memory.owner = self
        return np.frombuffer(memory, kind).reshape(shape)


def cluster_ids(vectors: Floats, family: FamilyName, num_hashes: int, parameters: HashParameters) -> NDArray[np.int32]:
    """Returns the cluster of each of loose vectors `[n, L]`, by the parameters of a block that they would stand in."""
    count, length = vectors.shape
    settings = make_settings(family=family, layout="channel", L=length, H=num_hashes)
    blocking = settings.blocking(ConvSpec(1, length, 1, count, 1, (1, 1)))
    own = HashParameters(**{name: None if array is None else array[None] for name, array in parameters.items()})
    plan = ClusteringPlan(blocking, settings, own, pixel_major_input=True)
    ids: NDArray[np.int32] = plan.clusters(vectors.reshape(1, 1, count, length)).ids[0]
    return ids


def stacked(centroids: Sequence[Floats]) -> Floats:
    """Returns the centroids `[C, L]` of blocks as one array `[B, Cmax, L]`, with zeros where there are fewer."""
    array = np.zeros((len(centroids), max(map(len, centroids)), centroids[0].shape[1]), np.float32)
    for own, block in zip(centroids, array, strict=True):
        block[: len(own)] = own
    return array


def _ordered(pixel_major: bool, batch: int, channels: int, height: int, width: int) -> tuple[int, ...]:
    return (batch, height, width, channels) if pixel_major else (batch, channels, height, width)


def _given(array: Floats, shape: tuple[int, ...]) -> Floats:
    """Returns an array as the library reads it."""
    if array.shape != shape:
        raise ConfigError(f"an array has shape {list(array.shape)}, expected {list(shape)}")
    return np.ascontiguousarray(array, np.float32)


def _written(array: Floats | None, shape: tuple[int, ...]) -> int | None:
    """Returns the address of an array that the library writes."""
    if array is None:
        return None
    if not (array.flags.carray and array.dtype == np.float32):
        raise ConfigError("an array that is to be written is not contiguous float32")
    return capi.address_of(_given(array, shape))
