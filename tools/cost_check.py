"""Compares the cost model's predictions with measured speed-ups.

    python -m tools.cost_check [--threads N] [--json FILE]

Each layer is compiled like any model and timed against onnxruntime's own Conv, interleaved, in one process. Inputs are
flat squares of random pixels, so that a known share of the pixels is distinct and neighbours are alike, as in images.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import typer
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

import reuse_compiler
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.cost import predicted_cost
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Blocking, ConvGeometry

REPEATS = 9


@dataclass(frozen=True)
class Measured:
    """One layer and setting; times are medians in milliseconds."""

    layer: str
    family: str
    L: int
    r_c: float
    dense_ms: float
    reuse_ms: float
    speedup: float
    predicted_speedup: float
    stage_ms: dict[str, float]


LAYERS = [
    # channels in, out, height = width, kernel, L, share of distinct pixels
    (256, 256, 56, 3, 256, 0.05),
    (256, 256, 56, 3, 64, 0.10),
    (256, 256, 56, 3, 16, 0.10),
    (64, 64, 224, 3, 64, 0.05),
    (64, 64, 224, 3, 16, 0.02),
    (128, 128, 112, 3, 32, 0.10),
    (512, 512, 28, 3, 64, 0.10),
    (256, 64, 56, 1, 64, 0.10),
]


def one_convolution(in_channels: int, out_channels: int, size: int, kernel: int) -> onnx.ModelProto:
    """Returns a model of one Conv with ReLU."""
    rng, pad = np.random.default_rng(0), kernel // 2
    w = rng.standard_normal((out_channels, in_channels, kernel, kernel)).astype(np.float32)
    bias = rng.standard_normal(out_channels).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[pad] * 4),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    shape = [1, in_channels, size, size]
    graph = helper.make_graph(
        nodes,
        "one_convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def flat_squares(channels: int, size: int, distinct: float) -> Any:
    """Returns an image [1, channels, size, size] of equal squares, about `distinct * size^2` of them."""
    side = max(1, round(distinct**-0.5))
    squares = -(-size // side)
    colours = np.random.default_rng(1).standard_normal((1, channels, squares, squares)).astype(np.float32)
    return np.ascontiguousarray(np.kron(colours, np.ones((1, 1, side, side), np.float32))[:, :, :size, :size])


def make_session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """Returns a session that uses `threads` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return reuse_compiler.session(model.SerializeToString(), sess_options=options)


def measure(layer: tuple[int, int, int, int, int, float], family: str, threads: int) -> Measured:
    """Compiles, runs and times one layer."""
    in_channels, out_channels, size, kernel, length, distinct = layer
    model = one_convolution(in_channels, out_channels, size, kernel)
    lowered = lower(
        model, CompileOptions.model_validate({"family": family, "sub_vector_length": length, "force": True})
    )
    dense, reuse = make_session(model, threads), make_session(lowered.model, threads)
    x = flat_squares(in_channels, size, distinct)
    times: dict[str, list[float]] = {"dense": [], "reuse": []}
    for _ in range(REPEATS):
        for name, session in (("dense", dense), ("reuse", reuse)):
            start = time.perf_counter()
            session.run(None, {"x": x})
            times[name].append(1e3 * (time.perf_counter() - start))
    node = reuse_compiler.statistics(reuse)[0]
    remaining_ratio = node.clusters / node.blocks / node.rows
    geometry = ConvGeometry(1, in_channels, size, size, out_channels, (kernel, kernel), pads=(kernel // 2,) * 4)
    num_hashes = lowered.layers[0].H
    assert num_hashes is not None
    cost = predicted_cost(Blocking(geometry, "channel", length), FAMILIES[family], num_hashes, remaining_ratio)
    dense_ms, reuse_ms = (statistics.median(times[name]) for name in ("dense", "reuse"))
    stages = {name: round(1e3 * seconds / node.runs, 3) for name, seconds in node.seconds.model_dump().items()}
    name = f"{in_channels}->{out_channels} {kernel}x{kernel} {size}x{size}"
    return Measured(
        name, family, length, remaining_ratio, dense_ms, reuse_ms, dense_ms / reuse_ms, 1 / cost.total, stages
    )


def main(
    threads: Annotated[int, typer.Option(help="Threads of both sessions.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file, too.")] = None,
) -> None:
    """Measure all layers with families sign and exact, and print speed-ups beside predictions."""
    results = [measure(layer, family, threads) for layer in LAYERS for family in ("sign", "exact")]
    table = Table(
        title=f"onnxruntime {onnxruntime.__version__}, {threads} thread(s), medians of {REPEATS} interleaved runs"
    )
    for heading in ("layer", "family", "L", "r_c", "dense ms", "reuse ms", "speed-up", "predicted"):
        table.add_column(heading, justify="left" if heading in ("layer", "family") else "right")
    for r in results:
        table.add_row(r.layer, r.family, str(r.L), f"{r.r_c:.3f}", f"{r.dense_ms:.1f}", f"{r.reuse_ms:.1f}",
                      f"{r.speedup:.2f}", f"{r.predicted_speedup:.2f}")  # fmt: skip
    Console(width=110).print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
