"""The code of docs/neighbours.md, and a model to run it on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

import reuse_compiler
from reuse_compiler.graph.structure import graphs_of
from reuse_compiler.runtime.library import library_path
from tests.comparison import assert_close
from tests.passes.models import model_of, random_array, tensor, value
from tools.cpp_build import ROOT

Array = npt.NDArray[Any]
PAGE = (ROOT / "docs" / "neighbours.md").read_text(encoding="utf-8")
CHANNELS, SIZE = 64, 64
"""Large enough that layers are expected to gain from reuse."""
node = helper.make_node


def section(heading: str) -> str:
    """Returns what stands under a heading of the page."""
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def recipe(heading: str, language: str = "python") -> str:
    """Returns the only code in a language under a heading."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", section(heading), re.DOTALL | re.MULTILINE)
    return str(code)


def run_recipe(heading: str, names: dict[str, object] | None = None) -> None:
    """Runs the Python code under a heading in the current folder, with values for the names that it leaves open."""
    exec(compile(recipe(heading), f"docs/neighbours.md, {heading}", "exec"), dict(names or {}))


def network(seed: int = 0) -> onnx.ModelProto:
    """Convolutions around a pool, a pool that is not between any, and a matrix; x [N, 3, 64, 64] becomes y [N, 10]."""
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], "first", pads=[1] * 4), node("Relu", ["c0"], ["r0"], "relu"),
        node("Conv", ["r0", "w1", "b1"], ["c1"], "second", pads=[1] * 4), node("Relu", ["c1"], ["r1"], "relu2"),
        node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], ["c2"], "third", pads=[1] * 4),
        node("LeakyRelu", ["c2"], ["r2"], "leaky", alpha=0.1 * seed),
        node("MaxPool", ["r2"], ["p2"], "last_pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p2"], ["g"], "mean"), node("Flatten", ["g"], ["f"], "flat"),
        node("MatMul", ["f", "fc"], ["y"], "classify"),
    ]  # fmt: skip
    square = (CHANNELS, CHANNELS, 3, 3)
    shapes = {"w0": (CHANNELS, 3, 3, 3), "w1": square, "w2": square, "fc": (CHANNELS, 10)}
    constants = [tensor(name, 0.05 * random_array(*shape, seed=seed)) for name, shape in shapes.items()]
    constants += [tensor(f"b{index}", random_array(CHANNELS, seed=seed + index)) for index in range(3)]
    return model_of(nodes, [value("x", ["N", 3, SIZE, SIZE])], [value("y", ["N", 10])], constants)


def compiled(original: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    """Returns what the compiler makes of a model without measuring anything."""
    return reuse_compiler.compile(original, verify=False, shapes={"x": (1, 3, SIZE, SIZE)}, **options).model


def images() -> Sequence[Array]:
    """Inputs of both kinds: one that repeats, and noise."""
    flat = np.full((1, 3, SIZE, SIZE), 0.5, np.float32)
    flat[:, :, 20:40] = 1
    return flat, random_array(1, 3, SIZE, SIZE)


def own_nodes(model: onnx.ModelProto) -> list[str]:
    """Returns the operators of ours in a model, with those in bodies."""
    return sorted(each.op_type for graph in graphs_of(model.graph) for each in graph.node if each.domain == "ai.reuse")


def functions(model: onnx.ModelProto) -> set[str]:
    """Returns the operators of ours that a model has functions for."""
    return {function.name for function in model.functions if function.domain == "ai.reuse"}


def outputs(model: onnx.ModelProto, x: Array, *, library: bool) -> Array:
    """Returns the only output, from onnxruntime with the operator library or without; raises what onnxruntime does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if library:
        options.register_custom_ops_library(library_path())
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


def assert_computes(
    changed: onnx.ModelProto, original: onnx.ModelProto, *, rtol: float = 1e-4, alone: bool = True
) -> None:
    """Holds where the changed model gives the original's results, with the operator library and `alone`, without."""
    for number, x in enumerate(images()):
        expected = outputs(original, x, library=False)
        for library in (True, False) if alone else (True,):
            what = f"image {number}, {'with' if library else 'without'} the library"
            assert_close(outputs(changed, x, library=library), expected, rtol=rtol, what=what)
