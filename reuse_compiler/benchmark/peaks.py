"""What this machine does at best: multiply-adds, and bytes copied within and beyond the caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.benchmark.report import MachinePeaks
from reuse_compiler.verification.sessions import BoundRun, open_session

MATRICES = (384, 512, 1024)
"""Rows and columns of the multiplied matrices; the fastest counts, since which one suits the caches best varies."""
CACHED_BYTES = 128 * 2**10
"""Size of the source (and of the target) of copies within the L2 cache."""
CACHED_COPIES = 400
CACHED_BUFFERS = 6
"""Pairs of buffers that are tried: how well one fits into the cache depends on where its pages happen to lie."""
MEMORY_BYTES = 128 * 2**20
"""Size of the source (and of the target) of copies that no cache holds."""
ATTEMPTS = 5
"""The best of so many counts: a peak is what nothing disturbs."""


@cache
def measure_peaks(threads: int) -> MachinePeaks:
    """Measures once per process."""
    return MachinePeaks(
        threads=threads,
        multiply_adds_per_second=max(_multiply_adds(threads, size) for size in MATRICES),
        cached_bytes_per_second=max(_copied_bytes(threads, CACHED_BYTES, CACHED_COPIES) for _ in range(CACHED_BUFFERS)),
        memory_bytes_per_second=_copied_bytes(threads, MEMORY_BYTES // threads, 1),
    )


def _multiply_adds(threads: int, size: int) -> float:
    """Multiply-adds per second of onnxruntime's MatMul of square matrices."""
    values = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size]) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "peak", info[:1], info[1:], [numpy_helper.from_array(values[1], "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    run = BoundRun(open_session(model, threads, "a matrix product", plain=True), values[0], (size, size))
    return size**3 / _best_seconds(run)


def _copied_bytes(threads: int, size: int, copies: int) -> float:
    """Bytes read and written per second by `threads` threads that each copy `size` bytes again and again."""
    buffers = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        source, target = pair
        for _ in range(copies):
            np.copyto(target, source)  # NumPy lets other threads run meanwhile

    with ThreadPoolExecutor(threads) as pool:
        seconds = _best_seconds(lambda: list(pool.map(copy, buffers)))
    return 2 * size * copies * threads / seconds


def _best_seconds(run: Callable[[], object]) -> float:
    run()  # memory is mapped and weights are packed
    seconds = []
    for _ in range(ATTEMPTS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
