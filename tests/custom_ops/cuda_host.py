"""The CUDA kernels, run on the host: a library that is built once per checkout, and cases computed with it."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import shutil
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from reuse_compiler.reuse.activation import NO_ACTIVATION, RELU, Activation
from reuse_compiler.reuse.families import FAMILIES
from tests.custom_ops.cases import Case
from tools.cpp_build import ROOT, build

FOLDER = ROOT / "build" / "cuda_host"
Mode = Literal["strict", "tf32", "half"]
Order = Literal["forwards", "backwards", "shuffled"]
Path = Literal["usual", "large", "by slot"]
MODES = ("strict", "tf32", "half")
ORDERS = ("forwards", "backwards", "shuffled")
PATHS = ("usual", "large", "by slot")
"""Which kernels cluster: the usual choice, those for many vectors, or sums by slot wherever codes allow it."""


def build_target(target: str) -> None:
    """Builds a target for release if its sources have changed, one process at a time; skips without a C++ compiler."""
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("building the kernels needs a C++ compiler")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = ["-DREUSE_BUILD_TESTS=ON", "-DREUSE_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Release"]
        build(FOLDER, options, target)


@functools.cache
def load() -> ctypes.CDLL:
    """Builds the library and returns it."""
    build_target("reuse_cuda_host")
    library = ctypes.CDLL(str(FOLDER / "tests" / "libreuse_cuda_host.so"))
    library.reuse_cuda_host_conv.restype = ctypes.c_int32
    return library


def run(
    case: Case,
    lowering: str = "fused",
    mode: Mode = "strict",
    order: Order = "shuffled",
    x: Any = None,
    path: Path = "usual",
) -> Any:
    """Returns Y of a case in its output order; `x`, in its input order, replaces the case's own input."""
    g, (own_x, w, bias) = case.spec, case.data()
    kind, operands = _activation(case.activation)
    activation = np.array(operands, np.float32)
    settings = [
        *(g.batch, g.in_channels, g.in_height, g.in_width, g.out_channels),
        *g.kernel, *g.strides, *g.pads, *g.dilations, g.group,
        ("patch", "channel").index(case.layout), case.sub_vector_length,
        ("nchw", "nhwc").index(case.input_order), ("nchw", "nhwc").index(case.output_order),
        case.num_hashes, ("image", "batch", "session", "static").index(case.scope),
        ("euclidean", "angular").index(case.metric), int(FAMILIES[case.family].lossless),
        kind, MODES.index(mode), int(lowering == "staged"), ORDERS.index(order),
        PATHS.index(path), ("float", "int8").index(case.table), int(case.keep_tables),
    ]  # fmt: skip
    rows = (g.out_height, g.out_width)
    shape = (g.batch, g.out_channels, *rows) if case.output_order == "nchw" else (g.batch, *rows, g.out_channels)
    y = np.full(shape, np.nan, np.float32)
    parameters = dict(case.parameters().items())
    arrays: list[NDArray[Any] | None] = [own_x if x is None else x, w, bias if case.bias else None]
    arrays += [parameters[name] for name in ("projections", "thresholds", "coordinates")]
    arrays += [case.centroids() if case.scope == "static" else None]
    kept = [None if array is None else np.ascontiguousarray(array) for array in arrays]
    message = ctypes.create_string_buffer(500)
    status = load().reuse_cuda_host_conv(
        _pointer(np.array(settings, np.int64)), case.family.encode(), ctypes.c_float(case.capacity),
        _pointer(activation), *(_pointer(array) for array in kept), _pointer(y), message, ctypes.c_size_t(len(message)),
    )  # fmt: skip
    if status != 0:
        raise ValueError(message.value.decode())
    return y


def _activation(activation: Activation) -> tuple[int, tuple[float, float]]:
    """Returns the number of the kernels' kind of activation, and its operands."""
    if activation == NO_ACTIVATION:
        return 0, (0.0, 0.0)
    if activation == RELU:
        return 1, (0.0, 0.0)
    if activation.alpha == 1.0:
        return 2, activation[1:]
    return 3, (activation.alpha, 0.0)


def _pointer(array: NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)
