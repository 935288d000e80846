"""Which tensors become pixel-major, what that does to nodes, names and declared shapes, and that results stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.base import run_passes
from reuse_compiler.passes.keep_pixel_major import KeepPixelMajor
from reuse_compiler.pipeline import PASSES, lower
from reuse_compiler.reference import REFERENCE_OPS
from tests.comparison import assert_close
from tests.passes.models import EXACT, context_of, model_of, node_bytes, operators, random_array, run, tensor, value

node = helper.make_node
X = random_array(2, 4, 12, 13)
NHWC = EXACT.model_copy(update={"data_order": "nhwc"})
BEFORE = PASSES[: [type(each) for each in PASSES].index(KeepPixelMajor)]


def conv(index: int, source: str, target: str, **attributes: Any) -> onnx.NodeProto:
    return node("Conv", [source, "w"], [target], name=f"conv{index}", **{"pads": [1] * 4, **attributes})


def chain(
    between: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[str] = ("y",),
    constants: Sequence[TensorProto] = (),
    opset: int = 17,
    **second: Any,
) -> onnx.ModelProto:
    """Input x -> conv1 -> a -> (`between`, from a to b) -> conv2 -> y; without `between` conv2 reads a."""
    nodes = [conv(1, "x", "a"), *between, conv(2, "b" if between else "a", "y", **second)]
    weights = [tensor("w", 0.3 * random_array(4, 4, 3, 3)), *constants]
    declared = [value(name, [None] * 4) for name in outputs]
    return model_of(nodes, [value("x", ["N", 4, "H", "W"])], declared, weights, opset=opset)


def rewritten(model: onnx.ModelProto, options: CompileOptions = NHWC) -> dict[str, str]:
    """Compiles, checks the result against the original and the reference, and returns what is pixel-major."""
    lowered = lower(model, options)
    expected = run(model, {"x": X})
    for actual, wanted in zip(run(lowered.model, {"x": X}), expected, strict=True):
        assert_close(actual, wanted)
    reference = ReferenceEvaluator(lowered.model, new_ops=REFERENCE_OPS).run(None, {"x": X})
    for actual, wanted in zip(reference, expected, strict=True):
        assert_close(np.asarray(actual), wanted)
    return lowered.pixel_major


def orders(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Returns the orders of X and Y of each reuse convolution."""
    found = []
    for each in model.graph.node:
        if each.op_type == "ReuseConv":
            own = {a.name: helper.get_attribute_value(a) for a in each.attribute}
            found.append((own.get("input_order", b"nchw").decode(), own.get("output_order", b"nchw").decode()))
    return found


def test_the_pass_tells_whether_it_changed_the_model() -> None:
    for options, changed in [(NHWC, True), (NHWC.model_copy(update={"data_order": "nchw"}), False), (EXACT, False)]:
        context = context_of(chain(), options)
        run_passes(BEFORE, context)
        before = node_bytes(context.model.graph)
        assert KeepPixelMajor().run(context) is changed
        assert (node_bytes(context.model.graph) != before) is changed
        assert context.pixel_major == ({"a": "a/nhwc"} if changed else {})


def test_neighbours() -> None:
    model = chain()
    assert rewritten(model) == {"a": "a/nhwc"}
    result = lower(model, NHWC).model
    assert orders(result) == [("nchw", "nhwc"), ("nhwc", "nchw")]
    assert [list(each.output) for each in result.graph.node] == [["a/nhwc"], ["y"]]


ELEMENTWISE: list[list[onnx.NodeProto]] = [
    [node("Relu", ["a"], ["b"])],  # which the first convolution takes in
    [node("Sigmoid", ["a"], ["b"])],
    [node("HardSwish", ["a"], ["b"])],
    [node("Elu", ["a"], ["s"], alpha=0.5), node("Tanh", ["s"], ["b"])],
    [node("Identity", ["a"], ["s"]), node("Clip", ["s", "one"], ["b"])],
    [node("Dropout", ["a"], ["b"])],
    [node("Mul", ["a", "half"], ["b"])],
    [node("Add", ["one", "a"], ["b"])],
    [node("Sigmoid", ["a"], ["s"]), node("Mul", ["a", "s"], ["b"])],
]
CONSTANTS = [tensor("one", np.float32(0.1)), tensor("half", np.full((1, 1, 1, 1), 0.5, np.float32))]


@pytest.mark.parametrize("between", ELEMENTWISE)
def test_elementwise_operators_between(between: list[onnx.NodeProto]) -> None:
    model = chain(between, constants=CONSTANTS)
    assert "b" in rewritten(model)
    assert orders(lower(model, NHWC).model) == [("nchw", "nhwc"), ("nhwc", "nchw")]


POOLS: list[tuple[str, dict[str, Any]]] = [
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1]}),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "storage_order": 1}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 1], "auto_pad": "SAME_LOWER"}),
    ("AveragePool", {"kernel_shape": [2, 3]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": 1}),
]


@pytest.mark.parametrize(("op", "attributes"), POOLS)
def test_pooling_between(op: str, attributes: dict[str, Any]) -> None:
    model = chain([node(op, ["a"], ["b"], name="pool", **attributes)])
    assert rewritten(model) == {"a": "a/nhwc", "b": "b/nhwc"}
    pool = lower(model, NHWC).model.graph.node[1]
    assert (pool.domain, pool.op_type, pool.name) == ("ai.reuse", "Pool", "pool")
    kept = {attribute.name: helper.get_attribute_value(attribute) for attribute in pool.attribute}
    assert kept.pop("mode") == (b"max" if op == "MaxPool" else b"average")
    assert set(kept) == set(attributes) - {"dilations", "storage_order"}


STAYS: list[tuple[str, list[onnx.NodeProto]]] = [
    ("indices", [node("MaxPool", ["a"], ["b", "where"], kernel_shape=[2, 2])]),
    ("dilations", [node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], dilations=[2, 1])]),
    (
        "what is divided by",
        [node("AveragePool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1)],
    ),
    ("an axis", [node("Softmax", ["a"], ["b"], axis=1)]),
    ("a factor by channel", [node("Mul", ["a", "by_channel"], ["b"])]),
    ("another tensor", [node("Add", ["a", "x"], ["b"])]),
    ("a mask", [node("Dropout", ["a"], ["b", "mask"])]),
    ("another reader", [node("GlobalAveragePool", ["a"], ["s"]), node("Mul", ["a", "s"], ["b"])]),
]


@pytest.mark.parametrize("between", [nodes for _, nodes in STAYS], ids=[name for name, _ in STAYS])
def test_other_operators_keep_the_order(between: list[onnx.NodeProto]) -> None:
    model = chain(between, constants=[tensor("by_channel", random_array(4, 1, 1))])
    assert rewritten(model) == {}
    assert orders(lower(model, NHWC).model) == [("nchw", "nchw")] * 2


def test_graph_outputs_keep_the_order() -> None:
    assert rewritten(chain(outputs=["y", "a"])) == {}
    between = [node("Sigmoid", ["a"], ["b"])]
    assert rewritten(chain(between, outputs=["y", "b"])) == {}
    assert rewritten(chain(between, outputs=["y", "a"])) == {}


def test_convolutions_that_need_planes_keep_the_order() -> None:
    assert rewritten(chain(), NHWC.model_copy(update={"exclude": "conv2"})) == {}
    assert rewritten(chain(), NHWC.model_copy(update={"layout": "patch", "sub_vector_length": 7})) == {}
    assert rewritten(chain(), NHWC.model_copy(update={"lowering": "staged"})) == {}


def test_a_patch_layer_may_write_pixel_major() -> None:
    model = chain()
    model.graph.initializer.append(tensor("w1", random_array(4, 3, 3, 3)))
    model.graph.node[0].input[1] = "w1"
    model.graph.input[0].CopyFrom(value("x", ["N", 3, "H", "W"]))
    lowered = lower(model, NHWC.model_copy(update={"sub_vector_length": 4}))
    assert [layer.layout for layer in lowered.layers] == ["patch", "channel"]
    assert orders(lowered.model) == [("nchw", "nhwc"), ("nhwc", "nchw")]
    feeds = {"x": random_array(2, 3, 12, 13)}
    assert_close(run(lowered.model, feeds)[0], run(model, feeds)[0])


def test_a_residual_block_is_one_region() -> None:
    between = [conv(3, "a", "c"), node("Add", ["a", "c"], ["s"]), node("Relu", ["s"], ["b"])]
    assert set(rewritten(chain(between))) == {"a", "c", "s", "b"}


def test_a_region_ends_where_one_of_its_readers_does_not_agree() -> None:
    """The pool's result is also a graph output, so neither it nor what it is made from can change."""
    between = [
        node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2]),
        conv(3, "p", "c"),
        node("Sigmoid", ["c"], ["b"]),
    ]
    assert set(rewritten(chain(between, outputs=["y", "p"]))) == {"c", "b"}


def test_auto_takes_regions_with_pooling() -> None:
    """Tensor a is read by a pool two nodes on; d lies between two convolutions, with an elementwise operator only."""
    between = [
        node("Sigmoid", ["a"], ["s"]),
        node("MaxPool", ["s"], ["p"], kernel_shape=[2, 2]),
        node("Tanh", ["p"], ["t"]),
        conv(3, "t", "d"),
        node("Sigmoid", ["d"], ["b"]),
    ]
    assert set(rewritten(chain(between), EXACT)) == {"a", "s", "p", "t"}
    assert set(rewritten(chain(between))) == {"a", "s", "p", "t", "d", "b"}
    assert rewritten(chain(), EXACT) == {}


def test_declared_shapes_move_along() -> None:
    model = chain([node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2])])
    model.graph.value_info.extend([value("a", ["N", 4, "H", "W"]), value("b", None)])
    declared = {info.name: info.type.tensor_type for info in lower(model, NHWC).model.graph.value_info}
    assert set(declared) == {"a/nhwc", "b/nhwc"}
    assert [dim.dim_param or dim.dim_value for dim in declared["a/nhwc"].shape.dim] == ["N", "H", "W", 4]
    assert declared["a/nhwc"].elem_type == TensorProto.FLOAT
    assert not declared["b/nhwc"].HasField("shape")


def test_new_names_do_not_clash() -> None:
    model = chain([node("Sigmoid", ["a"], ["a/nhwc"]), node("Tanh", ["a/nhwc"], ["b"])])
    assert rewritten(model)["a"] == "a/nhwc#2"


def test_bodies() -> None:
    def body(name: str, other: str) -> onnx.GraphProto:
        nodes = [conv(1, "x", f"{name}_a"), conv(2, f"{name}_a", f"{name}_y"), node("Relu", [other], [f"{name}_z"])]
        return helper.make_graph(nodes, name, [], [value(f"{name}_y", None), value(f"{name}_z", None)])

    # What a body reads from outside stays as it is; what begins and ends inside of it does not.
    outer = [conv(3, "x", "c"), conv(4, "c", "z"), node("If", ["cond"], ["y", "v"], name="if")]
    for kind in ("then", "else"):
        outer[-1].attribute.append(helper.make_attribute(f"{kind}_branch", body(kind, "c")))
    inputs = [value("x", ["N", 4, "H", "W"]), value("cond", [], TensorProto.BOOL)]
    outputs = [value(name, [None] * 4) for name in ("y", "z", "v")]
    model = model_of(outer, inputs, outputs, [tensor("w", 0.3 * random_array(4, 4, 3, 3))])
    lowered = lower(model, NHWC)
    assert lowered.pixel_major == {}
    branches = [attribute.g for attribute in lowered.model.graph.node[-1].attribute]
    assert [[list(each.output) for each in branch.node[:2]] for branch in branches] == [
        [["then_a/nhwc"], ["then_y"]],
        [["else_a/nhwc"], ["else_y"]],
    ]
    for condition in (True, False):
        feeds = {"x": X, "cond": np.array(condition)}
        for actual, expected in zip(run(lowered.model, feeds), run(model, feeds), strict=True):
            assert_close(actual, expected)


def test_other_nodes_stay_byte_for_byte() -> None:
    model = chain([node("Relu", ["x"], ["r"]), node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2])], outputs=["y", "r"])
    result = lower(model, NHWC).model
    assert operators(result.graph) == ["ReuseConv", "Relu", "Pool", "ReuseConv"]
    assert node_bytes(result.graph)[1] == node_bytes(model.graph)[1]
    assert list(result.graph.output) == list(model.graph.output)
