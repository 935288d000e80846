"""The code of docs/neighbours.md, and a model to run it on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from reuse_compiler.graph.structure import graphs_of
from reuse_compiler.runtime.library import library_path
from tests.passes.models import model_of, random_array, tensor, value
from tools.cpp_build import ROOT

Array = npt.NDArray[Any]
PAGE = (ROOT / "docs" / "neighbours.md").read_text(encoding="utf-8")
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


def network(seed: int = 0, *, slope: float = 0.0) -> onnx.ModelProto:
    """Convolutions around a pool, a pool that is not between any, and a matrix; x [N, 3, 16, 16] becomes y [N, 10]."""
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], name="first", pads=[1] * 4), node("Relu", ["c0"], ["r0"], "relu"),
        node("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p0", "w1", "b1"], ["c1"], name="second", pads=[1] * 4),
        node("LeakyRelu", ["c1"], ["r1"], "leaky", alpha=slope),
        node("MaxPool", ["r1"], ["p1"], "last_pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p1"], ["g"], "mean"), node("Flatten", ["g"], ["f"], "flat"),
        node("MatMul", ["f", "fc"], ["y"], "classify"),
    ]  # fmt: skip
    shapes = {"w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 8, 3, 3), "b1": (8,), "fc": (8, 10)}
    constants = [tensor(name, random_array(*shape, seed=seed)) for name, shape in shapes.items()]
    return model_of(nodes, [value("x", ["N", 3, 16, 16])], [value("y", ["N", 10])], constants)


def images(count: int = 2) -> Array:
    """Inputs in which every vector of a pixel's neighbourhood is there several times."""
    return np.repeat(np.repeat(random_array(count, 3, 4, 4), 4, axis=2), 4, axis=3)


def own_nodes(model: onnx.ModelProto) -> list[str]:
    """Returns the operators of ours in a model, with those in bodies."""
    return [each.op_type for graph in graphs_of(model.graph) for each in graph.node if each.domain == "ai.reuse"]


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
