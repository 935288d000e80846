"""Sessions that several threads run at once, with changing sizes of inputs: every bit as if run one after another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import reuse_compiler
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import FamilyName
from tools.fuzz.convolutions import Array, Rng, draw_array, open_quietly, pick

RUNS = 40
"""Runs of a case, on all its sessions and threads."""
CHANNELS, HEIGHT = 6, 9


def check(rng: Rng, folder: Path) -> None:
    """Draws models and inputs, runs them serially, then from threads, and compares; statistics are read meanwhile."""
    sessions = [_session(rng, folder / f"{index}.onnx") for index in range(int(rng.integers(1, 4)))]
    jobs: list[tuple[int, Array]] = []
    for _ in range(int(rng.integers(2, 7))):
        shape = (int(rng.integers(0, 4)), CHANNELS, HEIGHT + int(rng.integers(0, 9)), HEIGHT + int(rng.integers(0, 9)))
        jobs.append((int(rng.integers(len(sessions))), draw_array(rng, shape)))
    expected = [sessions[index].run(None, {"x": x}) for index, x in jobs]
    threads = int(rng.integers(2, 9))
    shares = [[int(rng.integers(len(jobs))) for _ in range(-(-RUNS // threads))] for _ in range(threads)]
    start = threading.Barrier(threads)

    def run(share: list[int]) -> None:
        start.wait()
        for job in share:
            index, x = jobs[job]
            outputs = sessions[index].run(None, {"x": x})
            reuse_compiler.statistics(sessions[index])
            for actual, wanted in zip(outputs, expected[job], strict=True):
                assert actual.shape == wanted.shape, f"{actual.shape}, one after another {wanted.shape}"
                same = np.array_equal(actual.view(np.uint32), wanted.view(np.uint32))
                assert same, f"other bits than one after another: model {index}, input {list(x.shape)}"

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run, share) for share in shares]:
            future.result()
    counted = sum(max(node.runs for node in reuse_compiler.statistics(session)) for session in sessions)
    made = len(jobs) + sum(map(len, shares))
    assert counted == made, f"the statistics count {counted} runs of {made}"


def _session(rng: Rng, path: Path) -> onnxruntime.InferenceSession:
    """Returns a session of two convolutions with a pool between, compiled with random settings."""
    channels = int(rng.integers(1, 30))
    weights = {"w1": (channels, CHANNELS, 3, 3), "w2": (int(rng.integers(1, 20)), channels, 2, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], "conv1", pads=[1, 1, 1, 1], strides=[1, int(rng.integers(1, 3))]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2]),
        helper.make_node("Conv", ["p", "w2"], ["y"], "conv2"),
    ]
    graph = helper.make_graph(
        nodes,
        "concurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", CHANNELS, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    fused = rng.random() < 0.7
    family: FamilyName = pick(rng, ["sign", "exact"])
    scope = pick(rng, ["batch", "image", *(["session"] if family == "exact" else [])])  # whose results have no history
    settings = CompileOptions(
        family=family,
        num_hashes=int(rng.integers(1, 20)) if family == "sign" else None,
        sub_vector_length=int(rng.integers(1, min(channels, CHANNELS) + 1)),
        layout=pick(rng, ["patch", "channel", "auto"]),
        scope=scope,
        capacity=pick(rng, [1.0, 0.2]),
        distance=pick(rng, ["euclidean", "angular"]),
        table=pick(rng, ["float", "int8"]) if fused and scope != "session" else "float",
        lowering="fused" if fused else "staged",
        force=True,
    )
    lowered = lower(model, settings)
    assert all(layer.decision == "reuse" for layer in lowered.layers), lowered.layers
    onnx.save(lowered.model, path)
    return open_quietly(rng, path)
