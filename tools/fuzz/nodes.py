"""Nodes of every operator, changed until they are hardly valid any more: refused with a sentence, or right."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reference.op_run import DOMAIN
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.int8_tables import LARGEST_INT8_ENTRY
from tools.fuzz.convolutions import (
    Array,
    Rng,
    assert_near,
    draw_array,
    draw_blocking,
    draw_parameters,
    draw_spec,
    open_quietly,
    pick,
)
from tools.fuzz.corruption import INTEGERS, REALS, corrupt_array

UNCHANGED = 0.1
"""Share of the nodes that stay valid: these must run."""
WORDS = (
    *("sign", "learned", "exact", "patch", "channel", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    *("batch", "image", "session", "static", "euclidean", "angular", "float", "int8"),
    *("", "PATCH", "sign\0", "\N{SNOWMAN}", "a" * 10_000, b"\xff\xfe"),
)
OPERATORS = (
    "ReuseConv",
    "ReuseConv",
    "Hash",
    "Cluster",
    "CentroidGemm",
    "Gather",
    "MaxPool",
    "AveragePool",
    "Redundancy",
    "Hold",
)
TYPES = (np.float16, np.float64, np.int8, np.int32, np.int64, np.uint8, np.bool_, np.float32)
LEAKED = ("::_M_", "vector::_", "basic_string::", "bad_array_new_length", "bad_function_call", "map::at")
"""What the standard library says of its own errors: no sentence for a user."""
COMPARABLE = 1e6
"""Values beyond it overflow in one order of summation and not in another."""


@dataclass
class Input:
    """A tensor that goes into the node."""

    name: str
    value: Array
    constant: bool
    declared: list[Any] | None
    """Shape that the model states; None: not even the rank."""
    absent: bool = False


@dataclass
class Node:
    """An operator with attributes, inputs and the number of its outputs."""

    op: str
    attributes: dict[str, Any]
    inputs: list[Input] = field(default_factory=list)
    outputs: int = 1

    def add(self, rng: Rng, **arrays: Array | None) -> None:
        """Appends inputs; an optional one that is None is left off, or has no elements."""
        for name, value in arrays.items():
            array = np.zeros(0, HashParameters.element(name)) if value is None else value
            constant = name not in ("X", "codes", "centroids", "counts", "table", "ids")
            declared = [f"{name}{axis}" if rng.random() < 0.5 else size for axis, size in enumerate(array.shape)]
            self.inputs.append(Input(name, array, constant, declared))

    def model(self) -> onnx.ModelProto:
        """Returns a model of this node alone."""
        present = {given.name: given for given in self.inputs if not given.absent}
        constants = [numpy_helper.from_array(g.value, g.name) for g in present.values() if g.constant]
        names = ["" if given.absent else given.name for given in self.inputs]
        node = helper.make_node(self.op, names, [f"Y{i}" for i in range(self.outputs)], "node", domain=DOMAIN)
        for name, value in self.attributes.items():
            kind = AttributeProto.INTS if isinstance(value, list) and not value else None
            node.attribute.append(helper.make_attribute(name, value, attr_type=kind))
        inputs = [
            helper.make_tensor_value_info(g.name, helper.np_dtype_to_tensor_dtype(g.value.dtype), g.declared)
            for g in present.values()
            if not g.constant
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]  # without types, which onnxruntime infers
        graph = helper.make_graph([node], "fuzz", inputs, outputs, constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def feeds(self) -> dict[str, Array]:
        return {g.name: g.value for g in self.inputs if not g.constant and not g.absent}


def draw_node(rng: Rng) -> Node:
    """Draws a valid node of any operator."""
    op = pick(rng, OPERATORS)
    if op == "Redundancy":
        return _draw_redundancy(rng)
    if op == "Hold":
        return _draw_hold(rng)
    return _draw_pool(rng, op) if op.endswith("Pool") else _draw_reuse(rng, op)


def _draw_reuse(rng: Rng, op: str) -> Node:
    spec = draw_spec(rng)
    b = draw_blocking(rng, spec)
    family = pick(rng, list(FAMILIES))
    hashes = int(rng.integers(1, 9 if FAMILIES[family].needs_samples else 41))
    geometry = attributes_of(spec) | {"layout": b.layout, "sub_vector_length": b.sub_vector_length}
    hashed = {"family": family, "num_hashes": hashes}
    clustered = {
        "scope": pick(rng, ["batch", "image", "session"]),
        "capacity": pick(rng, [1.0, 1.0, 0.3]),
        "metric": pick(rng, ["euclidean", "angular"]),
        "verify": int(FAMILIES[family].lossless),
    }
    in_session = clustered["scope"] == "session"
    if in_session and rng.random() < 0.5:
        clustered["memory"] = int(rng.integers(0, 5000))
    activations: list[dict[str, Any]] = [{}, {"min": 0.0}, {"min": -0.5, "max": 2.0}, {"alpha": 0.1}]
    gathered = activations[int(rng.integers(len(activations)))]
    x, w = draw_array(rng, spec.input_shape), rng.standard_normal(spec.weight_shape).astype(np.float32)
    bias = rng.standard_normal(spec.out_channels).astype(np.float32) if rng.random() < 0.7 else None
    parameters = dict(draw_parameters(rng, family, b, hashes).items())
    while parameters and list(parameters.values())[-1] is None:
        parameters.popitem()
    rows = int(rng.integers(1, 9))
    counts = rng.integers(0, rows + 1, b.num_blocks).astype(np.int32)
    if op == "Hash":
        node = Node(op, geometry | hashed)
        node.add(rng, X=x, **parameters)
    elif op == "Cluster":
        node = Node(op, geometry | clustered, outputs=3)
        node.add(rng, X=x, codes=rng.integers(-2, 5, (b.num_blocks, b.vectors)))
    elif op == "CentroidGemm":
        node = Node(op, {"layout": b.layout, "group": spec.group})
        node.add(rng, centroids=draw_array(rng, (b.num_blocks, rows, b.sub_vector_length)), counts=counts, W=w)
    elif op == "Gather":
        node = Node(op, geometry | gathered)
        table = rng.standard_normal((b.num_blocks, rows, b.table_width)).astype(np.float32)
        ids = rng.integers(0, rows, (b.num_blocks, b.vectors)).astype(np.int32)
        node.add(rng, table=table, ids=ids, X=x, bias=bias)
    else:
        orders = {
            "table": "float" if in_session else pick(rng, ["float", "int8"]),
            "output_perm": pick(rng, [[0, 1, 2, 3], [0, 2, 3, 1]]),
        }
        if b.layout == "channel" and rng.random() < 0.5:
            orders["input_perm"], x = [0, 3, 1, 2], np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        node = Node(op, geometry | hashed | clustered | gathered | orders)
        node.add(rng, X=x, W=w, bias=bias, **parameters)
    return node


def _draw_pool(rng: Rng, op: str) -> Node:
    kernel = [int(size) for size in rng.integers(1, 5, 2)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [int(stride) for stride in rng.integers(1, 4, 2)],
        "pads": [int(rng.integers(0, kernel[axis % 2])) for axis in range(4)],
    }
    attributes[pick(rng, ["ceil_mode", "count_include_pad"])] = int(rng.integers(0, 2))
    node = Node(op, attributes)
    height, width = (size + int(rng.integers(0, 8)) for size in kernel)
    node.add(rng, X=draw_array(rng, (int(rng.integers(1, 4)), height, width, int(rng.integers(1, 71)))))
    return node


def _draw_redundancy(rng: Rng) -> Node:
    kinds = int(rng.integers(1, 4))
    attributes: dict[str, Any] = {
        "windows": [int(side) for side in rng.integers(1, 12, kinds)],
        "gains": [float(gain) for gain in rng.standard_normal(kinds).astype(np.float32)],
        "strides": [int(stride) for stride in rng.integers(1, 4, kinds)],
        "threshold": pick(rng, [0.0, 0.25]),
        "samples": int(rng.integers(1, 65)),
        "channels": int(rng.integers(1, 9)),
    }
    for name in ("strides", "threshold", "samples", "channels"):
        if rng.random() < 0.3:
            del attributes[name]
    node = Node("Redundancy", attributes, outputs=int(rng.integers(1, 3)))
    shape = tuple(int(size) for size in rng.integers(1, 10, int(rng.integers(3, 5))))
    node.add(rng, X=draw_array(rng, shape))
    return node


def _draw_hold(rng: Rng) -> Node:
    axis, shape = pick(rng, [1, 3]), tuple(int(size) for size in rng.integers(1, 10, 4))
    count = pick(rng, [1, shape[axis]])
    attributes: dict[str, Any] = {
        "tolerances": [float(tolerance) for tolerance in rng.random(count).astype(np.float32)],
        "opening": int(rng.integers(0, 4)),
        "dilation": int(rng.integers(0, 4)),
        "patience": int(rng.integers(0, 3)),
        "axis": axis,
        "memory": int(rng.integers(0, 5000)),
    }
    node = Node("Hold", attributes)
    node.add(rng, X=draw_array(rng, shape))
    return node


def odd_value(rng: Rng) -> Any:
    """Draws a value of any type that an attribute can have."""
    length = int(rng.integers(0, 6))
    return pick(rng, [
        lambda: pick(rng, INTEGERS), lambda: pick(rng, REALS), lambda: pick(rng, WORDS),
        lambda: [pick(rng, INTEGERS) for _ in range(length)], lambda: [pick(rng, REALS) for _ in range(length)],
        lambda: [str(length)] * length, lambda: numpy_helper.from_array(np.zeros(length, np.float32), "t"),
        lambda: helper.make_graph([], "g", [], []),
    ])()  # fmt: skip


def like(rng: Rng, value: Any) -> Any:
    """Draws another value of the same type: of a list, one element is another, or there are more or fewer."""
    if isinstance(value, list) and value:
        changed = list(value)
        if rng.random() < 0.75:
            changed[int(rng.integers(len(changed)))] = like(rng, changed[0])
            return changed
        return changed[1:] if rng.random() < 0.5 else [*changed, changed[0]]
    if isinstance(value, str):
        return pick(rng, WORDS)
    return pick(rng, REALS if isinstance(value, float) else INTEGERS)


def change_attribute(rng: Rng, node: Node) -> None:
    """Changes, removes or adds an attribute."""
    name = pick(rng, [*node.attributes, "min", "alpha", "unknown"])
    way = rng.random()
    if way < 0.1:
        node.attributes.pop(name, None)
    else:
        node.attributes[name] = odd_value(rng) if way < 0.3 else like(rng, node.attributes.get(name, 0))


def change_input(rng: Rng, node: Node) -> None:
    """Changes what an input holds or states, whether it is there, or the number of inputs or outputs."""
    node.outputs += pick(rng, [-1, 1] if rng.random() < 0.1 else [0])
    if not node.inputs:
        return
    given = pick(rng, node.inputs)
    way = rng.random()
    if way < 0.6:
        given.value = corrupt_array(rng, given.value, TYPES)
        given.declared = list(given.value.shape) if rng.random() < 0.7 else given.declared
    elif way < 0.75:
        rank = given.value.ndim
        given.declared = pick(rng, [None, [], ["N"] * rank, [3] * rank, list(given.value.shape)])
    elif way < 0.82:
        given.constant = not given.constant
    elif way < 0.88:
        given.absent = True
    elif way < 0.92:
        node.inputs.remove(given)
    elif way < 0.96:
        rng.shuffle(node.inputs)
    else:
        node.inputs.append(Input(f"more{len(node.inputs)}", np.zeros(3, np.float32), rng.random() < 0.5, None))


def check(rng: Rng, folder: Path) -> None:
    """Draws a node, changes it, runs it in onnxruntime and compares what it gives with the reference."""
    node = draw_node(rng)
    changes = 0 if rng.random() < UNCHANGED else pick(rng, [1, 1, 2, 3])
    for _ in range(changes):
        pick(rng, [change_attribute, change_input])(rng, node)
    model, feeds = node.model(), node.feeds()
    (folder / "node.onnx").write_bytes(model.SerializeToString())
    np.savez(folder / "feeds.npz", **feeds)  # type: ignore[arg-type]
    try:
        session = open_quietly(rng, model)
        runs = [session.run(None, feeds) for _ in range(2 if node.attributes.get("scope") == "session" else 1)]
    except Exception as error:
        if not changes or not str(error) or any(word in str(error) for word in LEAKED):
            raise
        return
    if max(array.size for array in [*runs[0], *feeds.values()]) < 100_000:
        _compare(node, model, runs, certain=not changes)


def _compare(node: Node, model: onnx.ModelProto, runs: list[list[Array]], certain: bool) -> None:
    floats = [g for g in node.inputs if g.value.dtype.kind == "f" and not g.absent]
    sizes = {g.name: float(np.abs(g.value).max(initial=0)) for g in floats}
    if any(g.value.dtype != np.float32 for g in floats) or not all(size <= COMPARABLE for size in sizes.values()):
        return  # onnxruntime runs other types through casts
    try:
        with np.errstate(all="ignore"):
            reference = ReferenceEvaluator(model, new_ops=REFERENCE_OPS)
            expected = [reference.run(None, node.feeds()) for _ in runs]
    except Exception:
        if certain:
            raise
        return  # the reference says less well what is wrong
    length = node.attributes.get("sub_vector_length", 1)
    product = math.prod(max(1.0, size) for name, size in sizes.items() if name not in ("thresholds", "projections"))
    step = 2 * length * product / LARGEST_INT8_ENTRY if node.attributes.get("table") == "int8" else 0.0
    pairs = [pair for run, wanted in zip(runs, expected, strict=True) for pair in zip(run, wanted, strict=True)]
    for index, (actual, wanted) in enumerate(pairs):
        wanted = np.asarray(wanted)
        assert actual.dtype == wanted.dtype, f"{node.op} gives {actual.dtype}, the reference {wanted.dtype}"
        scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)) if wanted.dtype.kind == "f" else 0.0
        allowed = 1e-4 * scale + 1e-5 * product + step if wanted.dtype.kind == "f" else 0.0
        assert_near(actual, wanted, allowed, f"output {index % len(runs[0])} of {node.op} against the reference")
