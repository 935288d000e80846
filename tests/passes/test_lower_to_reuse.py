"""The new nodes have exactly the inputs and attributes of docs/operators.md, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.graph.tensors import to_array
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.choose_parameters import choose_parameters, plan_of
from reuse_compiler.pipeline import apply_plan, find_layers
from reuse_compiler.reuse.activation import NO_ACTIVATION
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import Fitted
from tests.passes.models import conv_model, model_of, node_bytes, operators, random_array, tensor, value

SIGN = CompileOptions(family="sign", sub_vector_length=2, num_hashes=3, force=True)
EXACT = CompileOptions(family="exact", force=True)


def rewrite(
    model: onnx.ModelProto,
    options: CompileOptions = SIGN,
    config: ReuseConfig | None = None,
    parameters: dict[str, HashParameters] | None = None,
) -> onnx.ModelProto:
    before = model.SerializeToString()
    prepared = find_layers(model)
    plan = plan_of(choose_parameters(prepared.layers, options, config, Fitted(parameters or {}), {}))
    result = apply_plan(prepared, plan, options.lowering, keep_order=True).model
    assert plan and model.SerializeToString() == before
    return result


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in found.items()}


GEOMETRY = {
    "kernel_shape": [3, 3],
    "strides": [1, 1],
    "pads": [0, 0, 0, 0],
    "dilations": [1, 1],
    "group": 1,
    "layout": "channel",
    "sub_vector_length": 2,
}
HASH = {"family": "sign", "num_hashes": 3}
CLUSTER = {"scope": "batch", "capacity": 1.0, "metric": "euclidean"}


def test_the_fused_form() -> None:
    model = conv_model()
    result = rewrite(model)
    (node,) = result.graph.node
    assert (node.op_type, node.domain, node.name, list(node.output)) == ("ReuseConv", "ai.reuse", "conv", ["y"])
    assert list(node.input) == ["x", "w", "b", "conv/projections", "conv/thresholds"]
    assert attributes_of(node) == GEOMETRY | HASH | CLUSTER
    assert [t.name for t in result.graph.initializer] == ["w", "b", "conv/projections", "conv/thresholds"]
    assert list(result.graph.initializer[2].dims) == [2, 2, 3]
    assert [(o.domain, o.version) for o in result.opset_import] == [("", 17), ("ai.reuse", 1)]


def test_int8_tables_are_an_attribute_of_the_fused_form() -> None:
    (node,) = rewrite(conv_model(), SIGN.model_copy(update={"table": "int8"})).graph.node
    assert attributes_of(node) == GEOMETRY | HASH | CLUSTER | {"table": "int8"}


def test_the_staged_form() -> None:
    relu = helper.make_node("Relu", ["c"], ["y"], name="relu")
    result = rewrite(conv_model(activation=relu), SIGN.model_copy(update={"lowering": "staged"}))
    hashing, cluster, gemm, gather = result.graph.node
    assert [n.name for n in result.graph.node] == ["conv/Hash", "conv/Cluster", "conv/CentroidGemm", "conv/Gather"]
    assert list(hashing.input) == ["x", "conv/projections", "conv/thresholds"]
    assert attributes_of(hashing) == GEOMETRY | HASH
    assert list(cluster.input) == ["x", *hashing.output]
    assert attributes_of(cluster) == GEOMETRY | CLUSTER
    assert list(gemm.input) == [*cluster.output[1:], "w"]
    assert attributes_of(gemm) == {"layout": "channel", "group": 1}
    assert list(gather.input) == [gemm.output[0], cluster.output[0], "x", "b"]
    assert attributes_of(gather) == GEOMETRY | {"min": 0.0}
    assert list(gather.output) == ["y"]


def test_absent_inputs_are_dropped_or_tensors_without_elements() -> None:
    result = rewrite(conv_model(bias=False))
    assert list(result.graph.node[0].input)[2:] == ["conv/no_bias", "conv/projections", "conv/thresholds"]
    assert {t.name: to_array(t) for t in result.graph.initializer}["conv/no_bias"].size == 0
    assert list(rewrite(conv_model(bias=False), EXACT).graph.node[0].input) == ["x", "w"]
    empty = conv_model(bias=False)
    empty.graph.node[0].input.append("")
    assert list(rewrite(empty, EXACT).graph.node[0].input) == ["x", "w"]


def test_exact_verifies() -> None:
    (node,) = rewrite(conv_model(), EXACT).graph.node
    assert attributes_of(node)["verify"] == 1 and attributes_of(node)["num_hashes"] == 1
    assert "verify" not in attributes_of(rewrite(conv_model()).graph.node[0])


@pytest.mark.parametrize("rotation", [False, True])
def test_the_learned_family(rotation: bool) -> None:
    config = ReuseConfig.model_validate(
        {"layers": {"conv": {"family": "learned", "layout": "channel", "L": 2, "H": 2}}}
    )
    trees = HashParameters(
        projections=random_array(2, 2, 2) if rotation else None,
        thresholds=random_array(2, 3),
        coordinates=np.zeros((2, 3), np.int32),
    )
    result = rewrite(conv_model(), CompileOptions(), config, {"conv": trees})
    names = ["conv/projections" if rotation else "conv/no_projections", "conv/thresholds", "conv/coordinates"]
    assert list(result.graph.node[0].input) == ["x", "w", "b", *names]
    constants = {t.name: to_array(t) for t in result.graph.initializer}
    np.testing.assert_array_equal(constants["conv/thresholds"], trees.thresholds)
    assert constants["conv/coordinates"].dtype == np.int32


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (helper.make_node("Relu", ["c"], ["y"]), {"min": 0.0}),
        (
            helper.make_node("LeakyRelu", ["c"], ["y"], alpha=0.5),
            {"alpha": 0.5},
        ),
        (
            helper.make_node("Clip", ["c", "", "six"], ["y"]),
            {"max": 6.0},
        ),
    ],
)
def test_activations_are_taken_in(activation: onnx.NodeProto, expected: dict[str, Any]) -> None:
    model = conv_model(activation=activation, initializers=[tensor("six", np.float32(6))])
    model.graph.value_info.append(value("c", [1, 6, 6, 6]))
    result = rewrite(model)
    (node,) = result.graph.node
    assert {k: v for k, v in attributes_of(node).items() if k in NO_ACTIVATION._fields} == expected
    assert list(node.output) == ["y"]
    assert not result.graph.value_info
    if activation.op_type == "Clip":
        assert "six" not in [t.name for t in result.graph.initializer]


def test_geometry_is_carried_over() -> None:
    model = conv_model(
        weights=(6, 2, 3, 5), strides=[2, 3], dilations=[2, 1], pads=[1, 2, 3, 4], group=2, kernel_shape=[3, 5]
    )
    expected = {"kernel_shape": [3, 5], "strides": [2, 3], "pads": [1, 2, 3, 4], "dilations": [2, 1], "group": 2}
    assert attributes_of(rewrite(model).graph.node[0]).items() >= expected.items()


def test_auto_pad_is_passed_through_without_pads() -> None:
    attributes = attributes_of(rewrite(conv_model(auto_pad="SAME_LOWER")).graph.node[0])
    assert attributes["auto_pad"] == "SAME_LOWER" and "pads" not in attributes
    attributes = attributes_of(rewrite(conv_model(auto_pad="NOTSET", pads=[1] * 4)).graph.node[0])
    assert attributes["pads"] == [1] * 4 and "auto_pad" not in attributes


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("opset", [9, 12, 13, 17])
def test_one_dimension(opset: int, lowering: str) -> None:
    relu = helper.make_node("Relu", ["c"], ["y"])
    model = conv_model(weights=(6, 4, 3), shape=(1, 4, 9), pads=[1, 2], opset=opset, activation=relu)
    result = rewrite(model, SIGN.model_copy(update={"lowering": lowering}))
    first, *inner, last = result.graph.node
    assert (first.op_type, first.name, last.op_type, last.name) == (
        "Unsqueeze",
        "conv/Unsqueeze",
        "Squeeze",
        "conv/Squeeze",
    )
    assert first.input[0] == "x" and list(last.output) == ["y"]
    constants = {t.name: t for t in result.graph.initializer}
    for node in (first, last):
        assert node.domain == ""
        if opset < 13:
            assert attributes_of(node) == {"axes": [2]} and len(node.input) == 1
        else:
            assert not node.attribute and to_array(constants[node.input[1]]).tolist() == [2]
    assert list(constants["conv/weights"].dims) == [6, 4, 1, 3] and "w" not in constants
    assert attributes_of(inner[0])["pads"] == [0, 1, 0, 2]
    assert attributes_of(inner[-1])["min"] == 0.0
    assert inner[0].input[0] == first.output[0] and inner[-1].output[0] == last.input[0]


def test_folded_weights_become_a_constant_and_what_computed_them_goes() -> None:
    model = conv_model()
    model.graph.node[0].input[1] = "wt"
    model.graph.node.insert(0, helper.make_node("Transpose", ["hwio"], ["wt"], perm=[3, 2, 0, 1]))
    hwio = random_array(3, 3, 4, 6)
    model.graph.initializer.append(tensor("hwio", hwio))
    result = rewrite(model)
    assert operators(result.graph) == ["ReuseConv"]
    constants = {t.name: to_array(t) for t in result.graph.initializer}
    np.testing.assert_array_equal(constants["conv/weights"], hwio.transpose(3, 2, 0, 1))
    assert "hwio" not in constants and "w" in constants  # w was unused before


def test_shared_and_aliased_weights_are_stored_once() -> None:
    nodes = [
        helper.make_node("Identity", ["w"], ["alias"]),
        helper.make_node("Conv", ["x", "w"], ["c"], name="a", pads=[1] * 4),
        helper.make_node("Conv", ["c", "alias"], ["y"], name="b", pads=[1] * 4),
    ]
    model = model_of(nodes, [value("x", [1, 4, 8, 8])], [value("y", None)], [tensor("w", random_array(4, 4, 3, 3))])
    result = rewrite(model, EXACT)
    assert [list(n.input) for n in result.graph.node] == [["x", "w"], ["c", "w"]]
    assert [t.name for t in result.graph.initializer] == ["w"]


def test_old_models_get_constant_nodes() -> None:
    model = conv_model(ir_version=3, opset=8)
    model.graph.input.extend([value("w", [6, 4, 3, 3]), value("b", [6])])
    result = rewrite(model)
    assert operators(result.graph) == ["Constant", "Constant", "ReuseConv"]
    assert [t.name for t in result.graph.initializer] == ["w", "b"]
    assert list(result.graph.input) == list(model.graph.input)


def test_new_names_clash_with_none() -> None:
    model = conv_model()
    model.graph.initializer.append(tensor("conv/projections", random_array(1)))
    result = rewrite(model)
    assert result.graph.node[0].input[3] == "conv/projections#2"


def test_the_clustering_node_is_told_whatever_its_name() -> None:
    relu = helper.make_node("Relu", ["c"], ["y"], name="conv/Cluster")
    prepared = find_layers(conv_model(activation=relu))
    plan = plan_of(choose_parameters(prepared.layers, SIGN, None, Fitted(), {}))
    assert apply_plan(prepared, plan).clustering == {"conv": "conv"}
    staged = apply_plan(prepared, plan, "staged")
    (node,) = [node for node in staged.model.graph.node if node.op_type == "Cluster"]
    assert staged.clustering == {"conv": node.name}


def mixed_model() -> onnx.ModelProto:
    """Two Convs (one depthwise) among other nodes, with everything that describes a model."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="before", doc_string="first node"),
        helper.make_node("Conv", ["r", "w"], ["c"], name="conv", pads=[1] * 4, doc_string="the layer"),
        helper.make_node("Sigmoid", ["c"], ["s"], name="between"),
        helper.make_node("Conv", ["s", "dw"], ["d"], name="depthwise", group=4),
        helper.make_node("Constant", [], ["k"], value=tensor("inner name", random_array(1)), name="constant"),
        helper.make_node("Add", ["d", "k"], ["y"], name="after"),
    ]
    weights = [
        tensor("w", random_array(4, 4, 3, 3)),
        tensor("dw", random_array(4, 1, 3, 3)),
        tensor("unused", random_array(1)),
    ]
    weights[0].doc_string = "weights"
    model = model_of(nodes, [value("x", ["N", 4, "H", "W"])], [value("y", ["N", 4, "h", "w_"])], weights)
    model.doc_string, model.producer_name, model.producer_version = "model", "somebody", "1"
    model.domain, model.model_version, model.graph.doc_string = "org.example", 7, "graph"
    model.metadata_props.add(key="author", value="A")
    model.graph.input[0].doc_string = "image"
    model.graph.node[1].metadata_props.add(key="trace", value="line 3")
    model.graph.value_info.append(value("s", ["N", 4, "H", "W"]))
    model.graph.value_info[0].doc_string = "kept"
    model.opset_import.add(domain="ai.onnx.ml", version=2)
    return model


def test_everything_else_stays_byte_for_byte() -> None:
    model = mixed_model()
    result = rewrite(model)
    assert operators(result.graph) == ["Relu", "ReuseConv", "Sigmoid", "Conv", "Constant", "Add"]
    before, after = node_bytes(model.graph), node_bytes(result.graph)
    assert before[:1] + before[2:] == after[:1] + after[2:]
    assert result.graph.node[1].doc_string == "the layer"
    assert [(p.key, p.value) for p in result.graph.node[1].metadata_props] == [("trace", "line 3")]
    kept = [t.SerializeToString() for t in model.graph.initializer]
    assert [t.SerializeToString() for t in result.graph.initializer][:3] == kept
    own = result.graph.value_info.pop()
    assert own.name == result.graph.node[1].output[0]
    for model_ in (model, result):
        del model_.graph.node[:]
        del model_.graph.initializer[:]
        del model_.opset_import[2:]
    assert result.SerializeToString() == model.SerializeToString()


def test_nothing_to_rewrite_is_nothing_changed() -> None:
    model = mixed_model()
    assert apply_plan(find_layers(model), {}).model is model
