"""The library's C functions for one layer, declared for ctypes, and what they are given.

Their headers are training_capi.h and cuda_training_capi.h in custom_ops/include/reuse. Arrays are NumPy's or tensors of
PyTorch: all that is asked of either is where its elements are.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Mapping
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_void_p
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import LibraryError
from reuse_compiler.reuse.config import LayerSettings, Scope
from reuse_compiler.reuse.fitted import CENTROIDS, HASH_PARAMETERS
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.runtime.library import load_library


class TensorLike(Protocol):
    """What is asked of a tensor of PyTorch."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def data_ptr(self) -> int: ...


SPEC_FIELDS: tuple[tuple[str, Any], ...] = (
    *((name, c_int64) for name in ("batch", "in_channels", "in_height", "in_width", "out_channels")),
    *(("kernel", c_int64 * 2), ("strides", c_int64 * 2), ("pads", c_int64 * 4), ("dilations", c_int64 * 2)),
    ("group", c_int64),
)
"""What the C structure has of a `ConvSpec`, under the same names."""


class Convolution(ctypes.Structure):
    """The C structure `reuse_convolution`."""

    _fields_ = (
        *SPEC_FIELDS,
        ("sub_vector_length", c_int64),
        ("patch", c_int32),
        ("pixel_major_input", c_int32),
        ("pixel_major_output", c_int32),
    )


class Hashing(ctypes.Structure):
    """The C structure `reuse_hashing`."""

    _fields_ = (
        ("family", c_char_p),
        ("num_hashes", c_int64),
        ("scope", c_int32),
        ("metric_angular", c_int32),
        ("capacity", c_float),
        ("keep_codes", c_int32),
        ("projections", c_void_p),
        ("projections_size", c_int64),
        ("thresholds", c_void_p),
        ("thresholds_size", c_int64),
        ("coordinates", c_void_p),
        ("coordinates_size", c_int64),
        ("centroids", c_void_p),
        ("centroids_size", c_int64),
    )


class CudaExecution(ctypes.Structure):
    """The C structure `reuse_cuda_execution`."""

    _fields_ = (("stream", c_void_p), ("tf32", c_int32))


class DeviceClusters(ctypes.Structure):
    """The C structure `reuse_cuda_clusters`."""

    _fields_ = (
        ("rows", c_int64),
        ("ids", c_void_p),
        ("counts", c_void_p),
        ("centroids", c_void_p),
        ("order", c_void_p),
        ("starts", c_void_p),
    )


SCOPES: dict[Scope, int] = {"batch": 0, "session": 0, "image": 1, "static": 2}
"""Their numbers in `reuse_hashing`. A layer by itself keeps nothing: every call is a session's first run."""

_LAYER = (POINTER(Convolution), POINTER(Hashing))
_DEVICE_CALL = (POINTER(Convolution), POINTER(DeviceClusters), POINTER(CudaExecution))

FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "reuse_last_error": (c_char_p, ()),
    "reuse_plan_create": (c_void_p, _LAYER),
    "reuse_plan_destroy": (None, (c_void_p,)),
    "reuse_cluster": (c_void_p, (c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int64)),
    "reuse_clusters_free": (None, (c_void_p,)),
    "reuse_clusters_ids": (c_void_p, (c_void_p,)),
    "reuse_clusters_block": (c_int64, (c_void_p, c_int64, POINTER(c_void_p), POINTER(c_void_p))),
    "reuse_clusters_codes": (c_void_p, (c_void_p, c_int64)),
    "reuse_forward": (c_int32, (c_void_p, c_void_p, c_void_p, c_int32, c_void_p, c_int64)),
    "reuse_backward": (c_int32, (c_void_p,) * 5 + (c_int64,)),
}
"""Result and arguments of the functions in training_capi.h."""

CUDA_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "reuse_cuda_number_bytes": (c_int64, _LAYER),
    "reuse_cuda_number": (c_int32, (*_LAYER, POINTER(CudaExecution)) + (c_void_p,) * 5),
    "reuse_cuda_average_bytes": (c_int64, (*_LAYER, c_int64)),
    "reuse_cuda_average": (c_int32, (*_LAYER, POINTER(CudaExecution)) + (c_void_p,) * 4 + (c_int64,) + (c_void_p,) * 2),
    "reuse_cuda_forward_bytes": (c_int64, (POINTER(Convolution), c_int64)),
    "reuse_cuda_forward": (c_int32, _DEVICE_CALL + (c_void_p,) * 4),
    "reuse_cuda_backward_bytes": (c_int64, (POINTER(Convolution), c_int64)),
    "reuse_cuda_backward": (c_int32, _DEVICE_CALL + (c_void_p,) * 5),
}
"""Those in cuda_training_capi.h, which only a library with CUDA kernels has."""


@functools.cache
def layer_library() -> ctypes.CDLL:
    """Returns the operator library with the functions for a layer declared; raises LibraryError for one without."""
    return declare(load_library(), FUNCTIONS)


@functools.cache
def cuda_layer_library() -> ctypes.CDLL:
    """Returns the operator library with those for CUDA tensors declared, too; raises LibraryError likewise."""
    return declare(layer_library(), CUDA_FUNCTIONS)


def declare(library: ctypes.CDLL, functions: dict[str, tuple[Any, tuple[Any, ...]]]) -> ctypes.CDLL:
    """Declares functions of a library, in place; raises LibraryError if it lacks one."""
    try:
        for name, (result, arguments) in functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise LibraryError(
            f"the operator library lacks functions for layers ({error}): rebuild it with `pip install .`"
        ) from error
    return library


def convolution_of(
    blocking: Blocking, pixel_major_input: bool = False, pixel_major_output: bool = False
) -> Convolution:
    """Returns the C structure of a blocking, and of the orders of its tensors."""
    g = blocking.spec
    return Convolution(
        **{name: getattr(g, name) for name, _ in SPEC_FIELDS},
        sub_vector_length=blocking.sub_vector_length,
        patch=int(blocking.layout == "patch"),
        pixel_major_input=int(pixel_major_input),
        pixel_major_output=int(pixel_major_output),
    )


def hashing_of(
    settings: LayerSettings, parameters: Mapping[str, NDArray[Any] | TensorLike | None], keep_codes: bool
) -> Hashing:
    """Returns the C structure of a layer's settings. It holds addresses, and does not keep the arrays alive.

    `parameters` are those of the hash, and with scope static the centroids.
    """
    hashing = Hashing(
        family=settings.family.encode(),
        num_hashes=settings.num_hashes,
        scope=SCOPES[settings.scope],
        metric_angular=int(settings.metric == "angular"),
        capacity=settings.capacity,
        keep_codes=int(keep_codes),
    )
    for name in (*HASH_PARAMETERS, CENTROIDS):
        values = parameters.get(name)
        setattr(hashing, name, address_of(values))
        setattr(hashing, f"{name}_size", -1 if values is None else math.prod(values.shape))
    return hashing


def address_of(values: NDArray[Any] | TensorLike | None) -> int | None:
    """Returns where elements begin, None for none."""
    if values is None:
        return None
    return values.ctypes.data if isinstance(values, np.ndarray) else values.data_ptr()
