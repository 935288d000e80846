"""Small models for the tests of graphs and passes, and how to run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.options import CompileOptions
from reuse_compiler.runtime.library import library_path

Array = npt.NDArray[Any]
EXACT = CompileOptions(family="exact", force=True)
OPSET, IR_VERSION = 17, 8


def random_array(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def tensor(name: str, array: npt.ArrayLike) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def value(name: str, shape: Sequence[int | str | None] | None, element: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
    *,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def conv_model(
    *,
    weights: Sequence[int] = (6, 4, 3, 3),
    bias: bool = True,
    shape: Sequence[int | str | None] = (1, 4, 8, 8),
    activation: onnx.NodeProto | None = None,
    initializers: Sequence[TensorProto] = (),
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    **attributes: Any,
) -> onnx.ModelProto:
    """Input x -> Conv `conv` -> (activation, which reads `c` and writes `y`) -> output y."""
    result = "y" if activation is None else "c"
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [helper.make_node("Conv", inputs, [result], name="conv", **attributes)]
    nodes += [activation] if activation is not None else []
    constants = [tensor("w", random_array(*weights)), *initializers]
    constants += [tensor("b", random_array(weights[0]))] if bias else []
    return model_of(
        nodes,
        [value("x", shape)],
        [value("y", [None] * len(shape))],
        constants,
        opset=opset,
        ir_version=ir_version,
    )


def run(model: onnx.ModelProto | str, feeds: dict[str, Array]) -> list[Array]:
    """Runs a model, or a file, in onnxruntime with the operator library."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library_path())
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def operators(graph: onnx.GraphProto) -> list[str]:
    return [node.op_type for node in graph.node]


def node_bytes(graph: onnx.GraphProto) -> list[bytes]:
    return [node.SerializeToString() for node in graph.node]
