"""Nodes of every operator, and changes of their attributes and tensors that make sense to no operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from reuse_compiler.reference.op_run import DOMAIN
from reuse_compiler.reuse.geometry import ConvSpec
from tests.custom_ops.cases import Array, Case
from tests.custom_ops.quantised_cases import QuantisedCase

INTEGERS = (0, 1, 2, 3, 7, -1, -3, 65, 2**30, 2**31 - 1, 2**31, 2**32 + 3, 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, 1e-45, 0.5, -1.0, 2.0, 3e38, float("inf"), float("nan"))
TEXTS = ("", "patch", "channel", "SAME_UPPER", "image", "sign", "exact", "int8", "x" * 5000, b"\xff\xfe", "a\0b")
SIZES = (0, 1, 2, 5, 17)
MOST_ELEMENTS = 2**16


class Node:
    """An operator with its attributes and tensors; those in `fed` are no constants."""

    def __init__(self, op: str, attributes: dict[str, Any], tensors: dict[str, Array], fed: set[str]) -> None:
        self.op, self.attributes, self.tensors, self.fed = op, attributes, tensors, fed

    def model(self) -> onnx.ModelProto:
        """Returns a model of this node alone, whose inputs have the tensors' shapes."""
        node = helper.make_node(self.op, list(self.tensors), ["Y", *_MORE_OUTPUTS.get(self.op, [])], "node", "", DOMAIN)
        for name, value in self.attributes.items():
            integers = isinstance(value, list) and all(isinstance(element, int) for element in value)
            kind = onnx.AttributeProto.INTS if integers else None
            node.attribute.append(helper.make_attribute(name, value, attr_type=kind))
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in self.tensors.items()
            if name in self.fed
        ]
        constants = [numpy_helper.from_array(self.tensors[name], name) for name in self.tensors if name not in self.fed]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]  # onnxruntime infers their types
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        graph = helper.make_graph([node], "nodes", inputs, outputs, constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def feeds(self) -> dict[str, Array]:
        return {name: array for name, array in self.tensors.items() if name in self.fed}


_MORE_OUTPUTS = {"Cluster": ["centroids_out", "counts_out"], "Redundancy": ["shares"]}


def valid_node(rng: np.random.Generator, op: str) -> Node:
    """Draws a node that runs."""
    if op.endswith("Pool"):
        pool = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "ceil_mode": int(rng.integers(2))}
        return Node(op, pool, {"X": rng.standard_normal((2, 7, 6, 5)).astype(np.float32)}, {"X"})
    if op == "Redundancy":
        redundancy: dict[str, Any] = {"windows": [3, 4], "strides": [1, 2], "gains": [1.0, 0.5]}
        redundancy |= {"threshold": 0.3, "samples": 9, "channels": 2}
        return Node(op, redundancy, {"X": rng.integers(0, 2, (2, 5, 7, 6)).astype(np.float32)}, {"X"})
    if op == "Hold":
        held: dict[str, Any] = {"tolerances": [0.5, 1.0, 0.0], "opening": 1, "dilation": 2, "axis": 3, "memory": 910}
        held |= {"patience": 2}
        return Node(op, held, {"X": rng.standard_normal((2, 7, 5, 3)).astype(np.float32)}, {"X"})
    if op == "QLinearReuseConv":
        return _quantised(rng)
    case = _draw_case(rng)
    b, rows = case.blocking, 3
    x, w, bias = case.data()
    hashing = {name: array for name, array in case.parameters().items() if array is not None}
    if case.family == "learned" and "projections" not in hashing:
        hashing = {"projections": np.zeros(0, np.float32), **hashing}
    geometry = case.geometry_attributes()
    hashed = {"family": case.family, "num_hashes": case.num_hashes}
    clustered = {"scope": case.scope, "capacity": 0.5, "metric": case.metric, "verify": int(case.family == "exact")}
    gathered = {"min": 0.0, "max": 6.0}
    centroids = rng.standard_normal((b.num_blocks, rows, b.sub_vector_length)).astype(np.float32)
    table = rng.standard_normal((b.num_blocks, rows, b.table_width)).astype(np.float32)
    ids = rng.integers(0, rows, (b.num_blocks, b.vectors)).astype(np.int32)
    attributes, tensors, fed = {
        "ReuseConv": (geometry | hashed | clustered | gathered | {"table": case.table},
                      {"X": x, "W": w, "bias": bias, **hashing}, {"X"}),
        "Hash": (geometry | hashed, {"X": x, **hashing}, {"X"}),
        "Cluster": (geometry | clustered, {"X": x, "codes": ids.astype(np.int64)}, {"X", "codes"}),
        "CentroidGemm": ({"layout": case.layout, "group": case.spec.group},
                         {"centroids": centroids, "counts": np.full(b.num_blocks, rows, np.int32), "W": w},
                         {"centroids", "counts"}),
        "Gather": (geometry | gathered, {"table": table, "ids": ids, "X": x, "bias": bias}, {"table", "ids", "X"}),
    }[op]  # fmt: skip
    if rng.random() < 0.3:
        fed = set(tensors)
    return Node(op, attributes, tensors, fed)


OPERATORS = (
    *("ReuseConv", "Hash", "Cluster", "CentroidGemm", "Gather", "QLinearReuseConv"),
    *("MaxPool", "AveragePool", "Redundancy", "Hold"),
)


def _draw_case(rng: np.random.Generator) -> Case:
    layout, length = (("patch", 5), ("channel", 2))[int(rng.integers(2))]
    spec = ConvSpec(2, 6, 6, 7, 10, (3, 3), (2, 1), (1, 0, 1, 2), (1, 2), 2)
    family = ("sign", "learned", "exact")[int(rng.integers(3))]
    table = ("float", "int8")[int(rng.integers(2))]
    return Case(spec, layout, length, family, 3, ("batch", "image")[int(rng.integers(2))], table=table, seed=1)  # type: ignore[arg-type]


def _quantised(rng: np.random.Generator) -> Node:
    layout, length = (("patch", 5), ("channel", 2))[int(rng.integers(2))]
    spec = ConvSpec(2, 6, 6, 7, 10, (3, 3), (2, 1), (1, 0, 1, 2), (1, 2), 2)
    case = QuantisedCase(spec, layout, length, zero_points=(3, 100, 7), zero_point_per_channel=bool(rng.integers(2)))  # type: ignore[arg-type]
    return Node("QLinearReuseConv", case.attributes(), {"X": case.x(), **case.constants()}, {"X"})


def change(rng: np.random.Generator, node: Node) -> None:
    """Changes one attribute or one tensor."""
    (_change_attribute if rng.random() < 0.6 else _change_tensor)(rng, node)


def _pick(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _change_attribute(rng: np.random.Generator, node: Node) -> None:
    name = _pick(rng, list(node.attributes))
    value = node.attributes[name]
    if rng.random() < 0.1:
        del node.attributes[name]
    elif rng.random() < 0.1:
        node.attributes[name] = _pick(rng, (*INTEGERS, *REALS, *TEXTS, [1], [2**63 - 1] * 4))
    elif isinstance(value, list):
        changed = list(value)
        changed[int(rng.integers(len(value)))] = _pick(rng, REALS if isinstance(value[0], float) else INTEGERS)
        node.attributes[name] = changed if rng.random() < 0.8 else changed[1:]
    else:
        node.attributes[name] = _pick(rng, {int: INTEGERS, float: REALS}.get(type(value), TEXTS))


def _change_tensor(rng: np.random.Generator, node: Node) -> None:
    name = _pick(rng, list(node.tensors))
    array = node.tensors[name]
    ways: list[Callable[[], Array]] = [lambda: _reshaped(rng, array), lambda: _overwritten(rng, array)]
    node.tensors[name] = _pick(rng, ways)()


def _reshaped(rng: np.random.Generator, array: Array) -> Array:
    """Returns an array with one extent changed, flattened, or of another rank."""
    way = rng.random()
    if way < 0.2 or array.ndim == 0:
        return array.reshape(-1)
    if way < 0.3:
        return array.reshape((1, *array.shape))
    shape = list(array.shape)
    shape[int(rng.integers(array.ndim))] = _pick(rng, SIZES)
    return np.resize(array, shape if np.prod(shape) <= MOST_ELEMENTS else [0] * array.ndim)


def _overwritten(rng: np.random.Generator, array: Array) -> Array:
    """Returns an array with one element changed."""
    changed = array.copy()
    if changed.size:
        odd = REALS if array.dtype.kind == "f" else [i for i in INTEGERS if abs(i) < 2**31]
        # Of bytes, what is left of the number.
        changed.flat[int(rng.integers(changed.size))] = np.array(_pick(rng, odd)).astype(changed.dtype)
    return changed
