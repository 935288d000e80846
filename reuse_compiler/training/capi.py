"""The library's C functions for training (custom_ops/include/reuse/training_capi.h), declared for ctypes."""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_void_p

from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime.library import load_library


class Convolution(ctypes.Structure):
    """`reuse_convolution`."""

    _fields_ = (
        ("batch", c_int64),
        ("in_channels", c_int64),
        ("in_height", c_int64),
        ("in_width", c_int64),
        ("out_channels", c_int64),
        ("kernel", c_int64 * 2),
        ("strides", c_int64 * 2),
        ("pads", c_int64 * 4),
        ("dilations", c_int64 * 2),
        ("group", c_int64),
        ("sub_vector_length", c_int64),
        ("patch", c_int32),
        ("pixel_major_input", c_int32),
        ("pixel_major_output", c_int32),
    )


class Hashing(ctypes.Structure):
    """`reuse_hashing`."""

    _fields_ = (
        ("family", c_char_p),
        ("num_hashes", c_int64),
        ("scope_image", c_int32),
        ("metric_angular", c_int32),
        ("capacity", c_float),
        ("keep_codes", c_int32),
        ("projections", c_void_p),
        ("projections_size", c_int64),
        ("thresholds", c_void_p),
        ("thresholds_size", c_int64),
        ("coordinates", c_void_p),
        ("coordinates_size", c_int64),
        ("widths", c_void_p),
        ("widths_size", c_int64),
    )


@functools.cache
def training_library() -> ctypes.CDLL:
    """Returns the operator library with its training functions declared; raises LibraryError for one without them."""
    library = load_library()
    try:
        library.reuse_last_error.argtypes = []
        library.reuse_last_error.restype = c_char_p
        library.reuse_cluster.argtypes = [POINTER(Convolution), POINTER(Hashing), c_void_p, c_int64]
        library.reuse_cluster.restype = c_void_p
        library.reuse_clusters_free.argtypes = [c_void_p]
        library.reuse_clusters_free.restype = None
        library.reuse_clusters_ids.argtypes = [c_void_p]
        library.reuse_clusters_ids.restype = c_void_p
        library.reuse_clusters_block.argtypes = [c_void_p, c_int64, POINTER(c_void_p), POINTER(c_void_p)]
        library.reuse_clusters_block.restype = c_int64
        library.reuse_clusters_codes.argtypes = [c_void_p, c_int64]
        library.reuse_clusters_codes.restype = c_void_p
        library.reuse_forward.argtypes = [c_void_p, c_void_p, c_void_p, c_int32, c_void_p, c_int64]
        library.reuse_forward.restype = c_int32
        library.reuse_backward.argtypes = [c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_int64]
        library.reuse_backward.restype = c_int32
    except AttributeError as error:
        raise LibraryError(
            f"the operator library has no training functions ({error}): rebuild it with `pip install .`"
        ) from error
    return library


def last_error() -> str:
    """Returns what the last failed call of this thread has to say."""
    message: bytes = training_library().reuse_last_error()
    return message.decode()
