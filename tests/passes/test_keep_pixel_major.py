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
from reuse_compiler.passes.choose_parameters import choose_parameters, plan_of
from reuse_compiler.passes.keep_pixel_major import keep_pixel_major
from reuse_compiler.pipeline import apply_plan, find_layers, lower
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reuse.fitted import Fitted
from tests.comparison import assert_close
from tests.passes.models import EXACT, model_of, node_bytes, operators, random_array, run, tensor, value

node = helper.make_node
X = random_array(2, 4, 12, 13)
W = 0.3 * random_array(4, 4, 3, 3)


def conv(index: int, source: str, target: str, **attributes: Any) -> onnx.NodeProto:
    return node("Conv", [source, "w"], [target], name=f"conv{index}", **{"pads": [1] * 4, **attributes})


def chain(
    between: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[str] = ("y",),
    constants: Sequence[TensorProto] = (),
    opset: int = 17,
    **second: Any,
) -> onnx.ModelProto:
    """Input x -> conv1 -> q -> MaxPool -> a -> (`between`, from a to b) -> conv2 -> y; without it conv2 reads a."""
    pool = node("MaxPool", ["q"], ["a"], kernel_shape=[3, 3], pads=[1] * 4)
    nodes = [conv(1, "x", "q"), pool, *between, conv(2, "b" if between else "a", "y", **second)]
    weights = [tensor("w", W), *constants]
    declared = [value(name, [None] * 4) for name in outputs]
    return model_of(nodes, [value("x", ["N", 4, "H", "W"])], declared, weights, opset=opset)


def rewritten(model: onnx.ModelProto, options: CompileOptions = EXACT) -> dict[str, str]:
    """Compiles, checks the result against the original and the reference, and returns what is pixel-major beside q."""
    lowered = lower(model, options)
    expected = run(model, {"x": X})
    for actual, wanted in zip(run(lowered.model, {"x": X}), expected, strict=True):
        assert_close(actual, wanted)
    reference = ReferenceEvaluator(lowered.model, new_ops=REFERENCE_OPS).run(None, {"x": X})
    for actual, wanted in zip(reference, expected, strict=True):
        assert_close(np.asarray(actual), wanted)
    return {name: renamed for name, renamed in lowered.rewritten.pixel_major.items() if name != "q"}


def orders(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Returns the orders of X and Y of each reuse convolution."""
    found = []
    for each in model.graph.node:
        if each.op_type == "ReuseConv":
            own = {a.name: helper.get_attribute_value(a) for a in each.attribute}
            perms = (own.get(name, [0, 1, 2, 3]) for name in ("input_perm", "output_perm"))
            x, y = ("nchw" if perm == [0, 1, 2, 3] else "nhwc" for perm in perms)
            found.append((x, y))
    return found


def test_the_model_that_is_given_is_not_changed() -> None:
    prepared = find_layers(chain())
    plan = plan_of(choose_parameters(prepared.layers, EXACT, None, Fitted(), {}))
    plain = apply_plan(prepared, plan, keep_order=True)
    before = plain.model.SerializeToString()
    ordered, renamed = keep_pixel_major(plain.model)
    assert renamed == {"q": "q/nhwc", "a": "a/nhwc"} == apply_plan(prepared, plan).pixel_major
    assert plain.model.SerializeToString() == before != ordered.SerializeToString()
    np.testing.assert_array_equal(run(ordered, {"x": X})[0], run(plain.model, {"x": X})[0])
    alone = model_of([conv(1, "x", "y")], [value("x", X.shape)], [value("y", [None] * 4)], [tensor("w", W)])
    dense = lower(alone, EXACT).model
    assert keep_pixel_major(dense) == (dense, {})


def test_neighbours() -> None:
    model = chain()
    assert rewritten(model) == {"a": "a/nhwc"}
    result = lower(model, EXACT).model
    assert orders(result) == [("nchw", "nhwc"), ("nhwc", "nchw")]
    assert [list(each.output) for each in result.graph.node] == [["q/nhwc"], ["a/nhwc"], ["y"]]


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
    assert orders(lower(model, EXACT).model) == [("nchw", "nhwc"), ("nhwc", "nchw")]


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
    pool = lower(model, EXACT.model_copy(update={"fallback": False})).model.graph.node[2]
    assert (pool.domain, pool.op_type, pool.name) == ("ai.reuse", op, "pool")
    kept = {attribute.name: helper.get_attribute_value(attribute) for attribute in pool.attribute}
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
    assert orders(lower(model, EXACT).model) == [("nchw", "nchw")] * 2


def test_graph_outputs_keep_the_order() -> None:
    assert rewritten(chain(outputs=["y", "a"])) == {}
    between = [node("Sigmoid", ["a"], ["b"])]
    assert rewritten(chain(between, outputs=["y", "b"])) == {}
    assert rewritten(chain(between, outputs=["y", "a"])) == {}


def test_convolutions_that_need_planes_keep_the_order() -> None:
    assert rewritten(chain(), EXACT.model_copy(update={"exclude": "conv2"})) == {}
    assert rewritten(chain(), EXACT.model_copy(update={"layout": "patch", "sub_vector_length": 7})) == {}
    assert rewritten(chain(), EXACT.model_copy(update={"lowering": "staged"})) == {}


def test_a_patch_layer_may_write_pixel_major() -> None:
    model = chain()
    model.graph.initializer.append(tensor("w1", random_array(4, 3, 3, 3)))
    model.graph.node[0].input[1] = "w1"
    model.graph.input[0].CopyFrom(value("x", ["N", 3, "H", "W"]))
    lowered = lower(model, EXACT.model_copy(update={"sub_vector_length": 4}))
    assert [layer.layout for layer in lowered.layers] == ["patch", "channel"]
    assert orders(lowered.model) == [("nchw", "nhwc"), ("nhwc", "nchw")]
    feeds = {"x": random_array(2, 3, 12, 13)}
    assert_close(run(lowered.model, feeds)[0], run(model, feeds)[0])


def test_a_residual_block_is_one_part() -> None:
    between = [conv(3, "a", "c"), node("Add", ["a", "c"], ["s"]), node("Relu", ["s"], ["b"])]
    assert set(rewritten(chain(between))) == {"a", "c", "s", "b"}


def test_a_part_ends_where_one_of_its_readers_does_not_agree() -> None:
    """The pool's result is also a graph output, so neither it nor what it is made from can change."""
    between = [
        node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2]),
        conv(3, "p", "c"),
        node("MaxPool", ["c"], ["b"], kernel_shape=[2, 2]),
    ]
    assert set(rewritten(chain(between, outputs=["y", "p"]))) == {"c", "b"}


def test_parts_without_pooling_keep_the_order() -> None:
    """Tensors d and b lie between two convolutions with an elementwise operator only."""
    between = [
        node("Sigmoid", ["a"], ["s"]),
        conv(3, "s", "d"),
        node("Sigmoid", ["d"], ["b"]),
    ]
    assert set(rewritten(chain(between))) == {"a", "s"}


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize(("stride", "computed"), [(3, True), (2, False), (1, False)])
def test_windows_larger_than_the_input(op_type: str, ceil_mode: int, stride: int, computed: bool) -> None:
    """What onnxruntime computes of an input that lacks less than a stride is computed, what it refuses is refused."""
    model = chain()
    kernel: dict[str, Any] = {"kernel_shape": [14, 14], "strides": [stride, stride], "ceil_mode": ceil_mode}
    model.graph.node[1].CopyFrom(node(op_type, ["q"], ["a"], **kernel))
    compiled = lower(model, EXACT).model
    assert [n.op_type for n in compiled.graph.node if n.domain == "ai.reuse"] == ["ReuseConv", op_type, "ReuseConv"]
    if computed:
        assert_close(run(compiled, {"x": X})[0], run(model, {"x": X})[0])
    else:
        for refused in (model, compiled):
            with pytest.raises(Exception, match=r"(?i)invalid|smaller|negative|dim"):
                run(refused, {"x": X})


def test_declared_shapes_move_along() -> None:
    model = chain([node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2])])
    model.graph.value_info.extend([value("a", ["N", 4, "H", "W"]), value("b", None)])
    declared = {info.name: info.type.tensor_type for info in lower(model, EXACT).model.graph.value_info}
    assert set(declared) == {"q/nhwc", "a/nhwc", "b/nhwc"}
    assert [dim.dim_param or dim.dim_value for dim in declared["a/nhwc"].shape.dim] == ["N", "H", "W", 4]
    assert declared["a/nhwc"].elem_type == TensorProto.FLOAT
    assert not declared["b/nhwc"].HasField("shape")


def test_new_names_do_not_clash() -> None:
    model = chain([node("Sigmoid", ["a"], ["a/nhwc"]), node("Tanh", ["a/nhwc"], ["b"])])
    assert rewritten(model)["a"] == "a/nhwc#2"


def test_bodies() -> None:
    def body(name: str, other: str) -> onnx.GraphProto:
        pool = node("MaxPool", [f"{name}_a"], [f"{name}_b"], kernel_shape=[2, 2])
        nodes = [
            conv(1, "x", f"{name}_a"),
            pool,
            conv(2, f"{name}_b", f"{name}_y"),
            node("Relu", [other], [f"{name}_z"]),
        ]
        return helper.make_graph(nodes, name, [], [value(f"{name}_y", None), value(f"{name}_z", None)])

    # What a body reads from outside stays as it is; what begins and ends inside of it does not.
    outer = [conv(3, "x", "c"), conv(4, "c", "z"), node("If", ["cond"], ["y", "v"], name="if")]
    for kind in ("then", "else"):
        outer[-1].attribute.append(helper.make_attribute(f"{kind}_branch", body(kind, "c")))
    inputs = [value("x", ["N", 4, "H", "W"]), value("cond", [], TensorProto.BOOL)]
    outputs = [value(name, [None] * 4) for name in ("y", "z", "v")]
    model = model_of(outer, inputs, outputs, [tensor("w", 0.3 * random_array(4, 4, 3, 3))])
    lowered = lower(model, EXACT)
    assert lowered.rewritten.pixel_major == {}
    branches = [attribute.g for attribute in lowered.model.graph.node[-1].attribute]
    assert [[list(each.output) for each in branch.node[:3]] for branch in branches] == [
        [["then_a/nhwc"], ["then_b/nhwc"], ["then_y"]],
        [["else_a/nhwc"], ["else_b/nhwc"], ["else_y"]],
    ]
    for condition in (True, False):
        feeds = {"x": X, "cond": np.array(condition)}
        for actual, expected in zip(run(lowered.model, feeds), run(model, feeds), strict=True):
            assert_close(actual, expected)


def test_other_nodes_stay_byte_for_byte() -> None:
    model = chain([node("Relu", ["x"], ["r"]), node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2])], outputs=["y", "r"])
    result = lower(model, EXACT).model
    assert operators(result.graph) == ["ReuseConv", "MaxPool", "Relu", "MaxPool", "ReuseConv"]
    assert node_bytes(result.graph)[2] == node_bytes(model.graph)[2]
    assert list(result.graph.output) == list(model.graph.output)


def test_a_node_that_computes_nothing_is_passed_over() -> None:
    model = chain()
    model.graph.node.append(helper.make_node("Relu", ["x"], []))
    assert lower(model, EXACT).modified
