"""The inference paper's Table II: every layer of its networks with its K, M, {H, L} and r_c, on inputs of that r_c.

The blocks are cut from the channels of pixels (layout `channel`), which all taps share, but for first layers, which
have too few of them: those are cut from windows, as in the paper (layout `patch`), and their r_c come out near the
paper's only, as windows overlap. Hyper-Cube's bins are ranges of single elements, as the nodes of a tree are: family
`learned` stands for it. The batches are ours, as the paper names none: with H = 8 its r_c need one of at most six.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from reuse_compiler.benchmark.case import ConvCase, make_case
from reuse_compiler.benchmark.conv import WARM_UPS, Circumstances, measure_conv
from reuse_compiler.benchmark.inputs import LayerInput, build_input
from reuse_compiler.benchmark.layer import dense_model, reuse_model
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.runtime import reset_statistics, statistics
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import interleave
from tools.papers.results import LayerSpeeds, Speed

REUSE_RATE = 0.95
"""R in the steady state."""
STATIC_HASHES = 8
"""Of the trees with fixed centroids that stand beside the paper's settings: larger tables are seldom worth it."""
MATCHES = 6
"""So many times the redundancy of windows is set anew, until r_c is the paper's."""


Cube = tuple[int, float, float]
"""Hyper-Cube: L, r_c, speed-up."""
Lsh = tuple[int, int, float, float, float]
"""LSH: H, L, r_c, speed-up without and with cluster reuse."""


@dataclass(frozen=True)
class PaperLayer:
    """A row of the table, with the convolution that it is about; the output is as large as the input at stride 1."""

    network: str
    layer: str
    channels: int
    M: int
    kernel: int
    size: int
    cube: Cube
    lsh: Lsh
    batch: int = 1
    stride: int = 1

    def case(self, **setting: Any) -> ConvCase:
        """Returns the layer with a setting to measure."""
        case = make_case(
            input_shape=(self.batch, self.channels, self.size, self.size),
            weight_shape=(self.M, self.channels, self.kernel, self.kernel),
            strides=(self.stride, self.stride),
            pads=(0, 0, 0, 0) if self.stride > 1 else None,
            layout="patch" if self.channels == 3 else "channel",
            **setting,
        )
        # Trees tell all windows apart.
        return matched(case) if case.blocking.layout == "patch" and case.family == "sign" else case


def matched(case: ConvCase) -> ConvCase:
    """Returns the case that asks for as many distinct windows as make the clusters that were asked for."""
    asked, tried = case.remaining_ratio, {}
    for _ in range(MATCHES):
        found = clustered(case)
        tried[abs(math.log(found / asked))] = case
        case = replace(case, remaining_ratio=min(1.0, case.remaining_ratio * asked / found))
    return tried[min(tried)]


def clustered(case: ConvCase, data: LayerInput | None = None) -> float:
    """Returns the r_c of a case's input, which is built unless it is there."""
    return sum((data or build_input(case)).clusters) / case.blocking.num_blocks / case.spec.rows


def _vgg(number: int, channels: int, m: int, size: int, cube: Cube, lsh: Lsh) -> PaperLayer:
    return PaperLayer("vgg19", f"conv{number}", channels, m, 3, size, cube, lsh, batch=4 if size < 28 else 1)


LAYERS = (
    PaperLayer("cifarnet", "conv1", 3, 64, 5, 32, (3, 0.03, 1.57), (15, 5, 0.01, 1.58, 1.59), batch=64),
    PaperLayer("cifarnet", "conv2", 64, 64, 5, 16, (10, 0.11, 1.68), (10, 10, 0.01, 2.51, 2.58), batch=64),
    PaperLayer("alexnet", "conv1", 3, 64, 11, 224, (11, 0.14, 0.94), (15, 11, 0.13, 1.63, 1.96), stride=4),
    PaperLayer("alexnet", "conv2", 64, 192, 5, 26, (5, 0.11, 2.13), (15, 20, 0.18, 2.84, 4.23), batch=4),
    PaperLayer("alexnet", "conv3", 192, 384, 3, 12, (6, 0.11, 1.22), (15, 12, 0.15, 2.58, 3.92), batch=4),
    PaperLayer("alexnet", "conv4", 384, 384, 3, 12, (6, 0.13, 1.14), (15, 12, 0.17, 2.76, 3.99), batch=4),
    PaperLayer("alexnet", "conv5", 384, 256, 3, 12, (6, 0.11, 1.14), (15, 24, 0.15, 2.23, 4.12), batch=4),
    _vgg(1, 3, 64, 224, (9, 0.05, 2.89), (15, 9, 0.08, 2.35, 2.83)),
    _vgg(2, 64, 64, 224, (6, 0.05, 1.37), (15, 16, 0.11, 2.06, 2.59)),
    _vgg(3, 64, 128, 112, (3, 0.03, 1.07), (15, 16, 0.13, 1.83, 2.48)),
    _vgg(4, 128, 128, 112, (3, 0.03, 0.91), (15, 16, 0.11, 1.95, 2.49)),
    _vgg(5, 128, 256, 56, (3, 0.02, 0.88), (10, 16, 0.09, 2.22, 3.39)),
    _vgg(6, 256, 256, 56, (3, 0.02, 0.89), (10, 16, 0.11, 2.03, 3.38)),
    _vgg(7, 256, 256, 56, (3, 0.02, 0.84), (10, 16, 0.06, 2.79, 3.31)),
    _vgg(8, 256, 256, 56, (3, 0.02, 0.85), (10, 16, 0.09, 2.52, 3.40)),
    _vgg(9, 256, 512, 28, (3, 0.03, 0.91), (8, 16, 0.05, 3.19, 4.05)),
    _vgg(10, 512, 512, 28, (3, 0.03, 0.85), (8, 24, 0.10, 2.85, 4.32)),
    _vgg(11, 512, 512, 28, (3, 0.03, 0.92), (8, 24, 0.11, 2.37, 4.16)),
    _vgg(12, 512, 512, 28, (3, 0.03, 0.89), (8, 24, 0.13, 2.44, 4.13)),
    _vgg(13, 512, 512, 14, (3, 0.02, 0.88), (8, 24, 0.20, 1.86, 3.26)),
    _vgg(14, 512, 512, 14, (3, 0.02, 0.91), (8, 24, 0.18, 1.81, 3.28)),
    _vgg(15, 512, 512, 14, (3, 0.02, 0.91), (8, 24, 0.18, 1.81, 3.26)),
    _vgg(16, 512, 512, 14, (3, 0.02, 0.85), (8, 24, 0.16, 2.02, 3.31)),
)


def measure_layer(layer: PaperLayer, repeats: int, progress: ProgressCallback) -> LayerSpeeds:
    """Returns the speed-ups of a layer over onnxruntime's Conv, on one thread."""

    def measured(case: ConvCase) -> Speed:
        report = measure_conv(case, Circumstances(repeats=repeats, staged=False), progress)
        return Speed(r_c=report.r_c, dense_ms=report.dense.median_ms, ms=report.fused.median_ms)

    hashes, length, r_c, *_ = layer.lsh
    same = {"sub_vector_length": length, "remaining_ratio": r_c}
    static = None
    if layer.channels > 3:
        few = min(r_c, 2**STATIC_HASHES / (layer.batch * layer.size**2))
        setting = {"num_hashes": STATIC_HASHES, "scope": "static", "table": "int8"}
        static = measured(layer.case(**same | setting | {"remaining_ratio": few}))
    case = layer.case(**same, family="sign", num_hashes=hashes)
    return LayerSpeeds(
        network=layer.network,
        layer=layer.layer,
        K=case.spec.columns,
        M=layer.M,
        batch=layer.batch,
        cube=measured(layer.case(sub_vector_length=layer.cube[0], remaining_ratio=layer.cube[1])),
        lsh=measured(case),
        session=measure_session(replace(case, scope="session"), repeats),
        trees=measured(layer.case(**same, table="int8")),
        static=static,
    )


def measure_session(case: ConvCase, repeats: int) -> Speed:
    """Returns the speed-up of scope session when every run brings vectors that no run before it had, for R = 0.95."""
    data, dense = build_input(case), dense_model(case)
    kept = open_session(reuse_model(dense, case, data, "fused"), 1, "the layer")
    plain = open_session(dense, 1, "the layer", plain=True)

    def bound(session: InferenceSession, x: NDArray[np.float32]) -> BoundRun:
        return BoundRun(session, x, case.spec.output_shape)

    length = case.blocking.sub_vector_length if case.blocking.layout == "channel" else case.spec.in_channels
    fresh = iter([bound(kept, x) for x in steady_inputs(data.x, length, WARM_UPS + repeats)])
    runs: dict[str, Callable[[], object]] = {"dense": bound(plain, data.x), "session": lambda: next(fresh)()}
    bound(kept, data.x)()
    interleave(runs, WARM_UPS)
    reset_statistics(kept)
    times = {name: median(samples) for name, samples in interleave(runs, repeats).items()}
    (node,) = statistics(kept)
    return Speed(r_c=clustered(case, data), dense_ms=times["dense"], ms=times["session"], reuse_rate=node.reuse_rate)


def steady_inputs(x: NDArray[np.float32], length: int, count: int) -> Iterator[NDArray[np.float32]]:
    """Yields inputs whose last pixels, a share of 1 - R, are each time turned otherwise, vector by vector.

    Vectors are `length` channels; what was equal in these pixels stays equal.
    """
    rng, pixels = np.random.default_rng(0), np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    first = round(REUSE_RATE * len(pixels))
    for _ in range(count):
        turned = pixels.copy()
        for start in range(0, pixels.shape[1], length):
            block = slice(start, start + length)
            width = turned[:, block].shape[1]
            turned[first:, block] = pixels[first:, block] @ np.linalg.qr(rng.standard_normal((width, width)))[0]
        yield np.ascontiguousarray(np.moveaxis(turned.reshape(len(x), *x.shape[2:], -1), -1, 1))
