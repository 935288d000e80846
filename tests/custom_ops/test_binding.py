"""What ONNX Runtime sees of the operators: shapes at load, errors, statistics, weights that are not constant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import reuse_compiler
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from tests.comparison import assert_close
from tests.custom_ops.cases import Case
from tests.running import fed, make_session, run_kernels

GEOMETRY = ConvSpec(2, 6, 9, 8, 10, (3, 3), (2, 1), (1, 0, 1, 2), (1, 2), 2)
CASE = Case(GEOMETRY, "channel", 2, "sign", 5)


def with_attribute(model: onnx.ModelProto, node: int, name: str, value: Any) -> onnx.ModelProto:
    """Returns a copy in which an attribute of a node is changed, or removed if the value is None."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    attributes = changed.graph.node[node].attribute
    kept = [a for a in attributes if a.name != name]
    del attributes[:]
    attributes.extend(kept)
    if value is not None:
        attributes.append(helper.make_attribute(name, value))
    return changed


@pytest.mark.parametrize("layout", ["patch", "channel"])
@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_output_shape_is_inferred_at_load(lowering: str, layout: Layout) -> None:
    case = replace(CASE, layout=layout)
    g = case.spec
    static = make_session(case.model(lowering, dynamic=False)).get_outputs()[0].shape
    assert static == [g.batch, g.out_channels, g.out_height, g.out_width]
    dynamic = make_session(case.model(lowering)).get_outputs()[0].shape
    assert dynamic[:2] == ["N", g.out_channels]
    assert all(isinstance(extent, str) for extent in dynamic[2:])


def test_pixel_major_shapes_are_inferred_at_load() -> None:
    case = replace(CASE, input_order="nhwc", output_order="nhwc")
    g = case.spec
    static = make_session(case.model("fused", dynamic=False)).get_outputs()[0].shape
    assert static == [g.batch, g.out_height, g.out_width, g.out_channels]
    dynamic = make_session(case.model("fused")).get_outputs()[0].shape
    assert dynamic[0] == "N" and dynamic[3] == g.out_channels
    assert all(isinstance(extent, str) for extent in dynamic[1:3])


@pytest.mark.parametrize("layout", ["patch", "channel"])
def test_intermediate_shapes_are_inferred_at_load(layout: Layout) -> None:
    case = replace(CASE, layout=layout)
    model = case.model("staged", dynamic=False)
    for name, kind in [("codes", 7), ("ids", 6), ("centroids", 1), ("counts", 6), ("table", 1)]:
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    session = make_session(model)
    shapes = {output.name: output.shape for output in session.get_outputs()}
    names = [output.name for output in session.get_outputs()]
    actual = dict(zip(names, session.run(None, {"X": case.data()[0]}), strict=True))
    b = case.blocking
    assert shapes["codes"] == shapes["ids"] == [b.num_blocks, b.vectors]
    assert shapes["counts"] == [b.num_blocks]
    assert [shapes["centroids"][0], shapes["centroids"][2]] == [b.num_blocks, b.sub_vector_length]
    assert [shapes["table"][0], shapes["table"][2]] == [b.num_blocks, b.table_width]
    for name, shape in shapes.items():
        known = [(a, e) for a, e in zip(actual[name].shape, shape, strict=True) if isinstance(e, int)]
        assert known and all(a == e for a, e in known), name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("family", "pstable", "family is 'pstable', must be one of sign, learned"),
        ("family", None, "family is missing"),
        ("layout", "rows", "layout is 'rows'"),
        ("layout", None, "layout is missing"),
        ("kernel_shape", None, "kernel_shape is missing"),
        ("kernel_shape", [3], "kernel_shape has 1 values"),
        ("strides", [0, 1], "strides is 0"),
        ("pads", [-1, 0, 0, 0], "pads is -1"),
        ("sub_vector_length", None, "sub_vector_length is missing"),
        ("sub_vector_length", 0, "sub_vector_length is 0"),
        ("scope", "model", "scope is 'model'"),
        ("capacity", 1.5, "capacity is 1.5"),
        ("metric", "cosine", "metric is 'cosine'"),
        ("table", "int4", "table is 'int4'"),
        ("alpha", "much", "attribute alpha must be a number"),
        ("num_hashes", "seven", "attribute num_hashes must be an integer"),
        ("layout", 1, "attribute layout must be a string"),
        ("capacity", "much", "attribute capacity must be a number"),
        ("auto_pad", "SAME", "auto_pad is 'SAME'"),
        ("input_perm", [0, 2, 3, 1], "input_perm must be 0,1,2,3 .* or 0,3,1,2"),
        ("output_perm", [3, 2, 1], "output_perm must be 0,1,2,3 .* or 0,2,3,1"),
    ],
)
def test_a_wrong_attribute_is_named_when_the_session_is_made(name: str, value: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        make_session(with_attribute(CASE.model("fused"), 0, name, value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_hashes", 6, "projections has"),
        ("num_hashes", 65, "num_hashes is 65"),
        ("sub_vector_length", 4, "only 3 channels"),
        ("group", 4, "group 4 does not divide|does not fit"),
    ],
)
def test_settings_that_do_not_fit_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        run_kernels(with_attribute(CASE.model("fused"), 0, name, value), CASE.data()[0])


def test_wrong_inputs_are_named() -> None:
    model = CASE.model("fused")
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("X", TensorProto.FLOAT, None))
    for shape, message in [((6, 9, 8), "needs rank 4"), ((2, 5, 9, 8), "does not fit"), ((2, 6, 0, 8), "smaller")]:
        with pytest.raises(Exception, match=message):
            run_kernels(model, np.zeros(shape, np.float32))


def test_split_coordinates_outside_the_vector_are_refused() -> None:
    case = Case(GEOMETRY, "channel", 2, "learned", 3)
    model = case.model("fused")
    tensor = next(t for t in model.graph.initializer if t.name == "coordinates")
    values = numpy_helper.to_array(tensor).copy()
    values[-1, -1] = 2
    tensor.CopyFrom(numpy_helper.from_array(values, "coordinates"))
    with pytest.raises(Exception, match="coordinates hold 2, must be 0 to 1"):
        run_kernels(model, case.data()[0])


def test_weights_need_not_be_constant() -> None:
    """The compiler rewrites constant weights only, but the operator itself takes any."""
    x, w, _ = CASE.data()
    expected = run_kernels(CASE.model("fused"), x)
    actual = make_session(fed(CASE.model("fused"), "W")).run(None, {"X": x, "W": w})[0]
    assert_close(actual, expected, what="weights as an input")


@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_statistics_tell_what_a_run_did(lowering: str) -> None:
    session = reuse_compiler.session(CASE.model(lowering).SerializeToString())
    before = {node.node: node for node in reuse_compiler.statistics(session)}
    assert before and all(node.runs == 0 for node in before.values())
    x = CASE.data()[0]
    for _ in range(3):
        session.run(None, {"X": x})
    nodes = {node.node: node for node in reuse_compiler.statistics(session)}
    assert all(node.runs == 3 for node in nodes.values())
    clustering = nodes["conv" if lowering == "fused" else "cluster"]
    b = CASE.blocking
    assert clustering.blocks == b.num_blocks and clustering.vectors == 3 * b.num_blocks * b.vectors
    assert clustering.rows == 3 * b.spec.rows
    assert 3 * b.num_blocks <= clustering.clusters <= 3 * b.num_blocks * 2**CASE.num_hashes
    assert clustering.scratch_bytes > 0
    reuse_compiler.reset_statistics(session)
    assert all(node.runs == 0 for node in reuse_compiler.statistics(session))


def test_equal_names_of_inferred_dimensions_mean_equal_sizes() -> None:
    """ONNX Runtime shares memory between tensors whose dimensions have the same names."""
    same = ConvSpec(1, 6, 9, 8, 6, (3, 3), (1, 1), (1, 1, 1, 1))
    halved = ConvSpec(1, 6, 9, 8, 6, (3, 3), (2, 2), (1, 1, 1, 1))
    shrunk = ConvSpec(1, 6, 9, 8, 6, (3, 3), (1, 1), (0, 0, 0, 0))
    shapes = [
        make_session(Case(spec, "channel", 6, "exact", 1).model("fused")).get_outputs()[0].shape
        for spec in (same, halved, shrunk)
    ]
    assert shapes[0] == ["N", 6, "H", "W"]
    assert shapes[1] == ["N", 6, "floor((H-1)/2)+1", "floor((W-1)/2)+1"]
    assert shapes[2] == ["N", 6, "floor((H-3)/1)+1", "floor((W-3)/1)+1"]


def test_a_chain_of_layers_of_unknown_size_runs() -> None:
    """Downsampling layers whose sizes ONNX Runtime cannot know must not be taken for equally large."""
    weights = np.random.default_rng(0).standard_normal((6, 6, 3, 3)).astype(np.float32)
    attributes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "layout": "channel"}
    attributes |= {"sub_vector_length": 6, "family": "exact", "verify": 1}
    nodes = [
        helper.make_node("ReuseConv", [f"t{i}", "w"], [f"t{i + 1}"], f"conv{i}", domain="ai.reuse", **attributes)
        for i in range(4)
    ]
    graph = helper.make_graph(
        nodes, "chain", [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [None] * 4)],
        [helper.make_tensor_value_info("t4", TensorProto.FLOAT, None)], [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.reuse", 1)]
    session = make_session(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    for size in (33, 64):
        result = session.run(None, {"t0": np.ones((2, 6, size, size), np.float32)})[0]
        assert result.shape == (2, 6, -(-size // 16), -(-size // 16))


def test_a_pixel_major_input_needs_the_channel_layout() -> None:
    case = replace(CASE, layout="patch", input_order="nhwc")
    with pytest.raises(Exception, match="input_perm for NHWC needs layout channel"):
        make_session(case.model("fused"))
