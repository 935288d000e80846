"""A part of a model computes what the whole model computes, and holds nothing that it does not need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.errors import ModelError
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.graph.load import load_model
from reuse_compiler.graph.save import save_model
from reuse_compiler.graph.tensors import is_external
from tests.comparison import assert_close
from tests.passes.models import Array, model_of, operators, random_array, run, tensor, value


def residual_model(batch: int | str = 2) -> onnx.ModelProto:
    """Returns y = Conv(r) + r with r = Relu(Conv(x)); both Convs share their weight, the second output is Relu(y)."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["d"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["d", "r"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    constants = [tensor("w", random_array(4, 4, 3, 3)), tensor("b", random_array(4)), tensor("unused", [1.0])]
    inputs = [value("x", [batch, 4, 6, 6])]
    return model_of(nodes, inputs, [value("y", None), value("z", None)], constants)


def body_model() -> onnx.ModelProto:
    """An If whose branches read tensors of the main graph: a = Relu(x), an initializer `w`, and the input `k`."""
    then = helper.make_graph([helper.make_node("Mul", ["a", "w"], ["t"])], "then", [], [value("t", None)])
    inner = helper.make_node(
        "If",
        ["cond"],
        ["i"],
        then_branch=helper.make_graph([helper.make_node("Add", ["a", "k"], ["i1"])], "in1", [], [value("i1", None)]),
        else_branch=helper.make_graph([helper.make_node("Neg", ["a"], ["i2"])], "in2", [], [value("i2", None)]),
    )
    other = helper.make_graph([inner], "else", [], [value("i", None)])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("If", ["cond"], ["o"], then_branch=then, else_branch=other),
        helper.make_node("Exp", ["o"], ["y"]),
    ]
    inputs = [value("x", [3]), value("k", [3]), value("cond", [], TensorProto.BOOL)]
    return model_of(nodes, inputs, [value("y", None)], [tensor("w", random_array(3))])


def names_of(values: list[onnx.ValueInfoProto]) -> list[str]:
    return [entry.name for entry in values]


def test_both_halves_compute_what_the_model_computes() -> None:
    model = residual_model()
    x = random_array(2, 4, 6, 6)
    y, z = run(model, {"x": x})
    front, back = cut_model(model, ["x"], ["r"]), cut_model(model, ["r"], ["y", "z"])
    onnx.checker.check_model(front, full_check=True)
    onnx.checker.check_model(back, full_check=True)
    (r,) = run(front, {"x": x})
    for actual, expected in zip(run(back, {"r": r}), (y, z), strict=True):
        assert_close(actual, expected)


def test_only_what_is_needed_is_kept() -> None:
    model = residual_model()
    before = model.SerializeToString()
    front = cut_model(model, ["x"], ["c"])
    assert operators(front.graph) == ["Conv"] and names_of(front.graph.input) == ["x"]
    assert [t.name for t in front.graph.initializer] == ["w", "b"]
    back = cut_model(model, ["r"], ["z"])
    assert operators(back.graph) == ["Conv", "Add", "Relu"] and [t.name for t in back.graph.initializer] == ["w"]
    assert names_of(back.graph.input) == ["r"] and names_of(back.graph.output) == ["z"]
    assert model.SerializeToString() == before


def test_other_paths_start_at_the_models_own_inputs() -> None:
    model = residual_model()
    x = random_array(2, 4, 6, 6)
    part = cut_model(model, ["d"], ["z"])
    assert names_of(part.graph.input) == ["d", "x"]
    r, d = run(cut_model(model, ["x"], ["r", "d"]), {"x": x})
    assert_close(run(part, {"d": d, "x": x})[0], run(model, {"x": x})[1])
    assert_close(run(part, {"d": 0 * d, "x": x})[0], r)


def test_bodies_keep_what_they_read() -> None:
    model = body_model()
    part = cut_model(model, ["a"], ["y"])
    assert names_of(part.graph.input) == ["a", "k", "cond"] and [t.name for t in part.graph.initializer] == ["w"]
    feeds: dict[str, Array] = {"x": random_array(3, seed=1), "k": random_array(3, seed=2)}
    for cond in (True, False):
        expected = run(model, feeds | {"cond": np.array(cond)})[0]
        a = np.maximum(feeds["x"], 0)
        assert_close(run(part, {"a": a, "k": feeds["k"], "cond": np.array(cond)})[0], expected)


def test_a_loop_body_that_captures_the_cut_tensor() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["s_in", "a"], ["s_out"]), helper.make_node("Identity", ["go"], ["go_out"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("s_in", [3])],
        [value("go_out", [], TensorProto.BOOL), value("s_out", [3])],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["x"], ["start"]),
        helper.make_node("Loop", ["n", "", "start"], ["y"], body=body),
    ]
    constants = [tensor("n", np.array(4, np.int64))]
    model = model_of(nodes, [value("x", [3])], [value("y", None)], constants)
    part = cut_model(model, ["a", "start"], ["y"])
    assert operators(part.graph) == ["Loop"] and names_of(part.graph.input) == ["a", "start"]
    x = random_array(3)
    assert_close(run(part, {"a": np.maximum(x, 0), "start": -x})[0], run(model, {"x": x})[0])


def test_a_node_stays_for_its_other_output() -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["p", "q"], axis=0),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    model = model_of(nodes, [value("x", [4])], [value("y", None)])
    part = cut_model(model, ["p"], ["y"])
    assert operators(part.graph) == ["Split", "Add"]
    x = random_array(4)
    p = random_array(2)
    assert_close(run(part, {"p": p, "x": x})[0], p + x[2:])


def test_inputs_have_the_inferred_type_and_shape() -> None:
    front = cut_model(residual_model(batch="N"), ["r"], ["y"])
    shape = front.graph.input[0].type.tensor_type.shape
    assert [dim.dim_param or dim.dim_value for dim in shape.dim] == ["N", 4, 6, 6]
    assert front.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert {entry.name for entry in front.graph.value_info} == {"d"}


def test_stale_declarations_do_not_count() -> None:
    model = residual_model(batch="N")
    model.graph.value_info.append(value("r", [1, 4, 6, 6]))
    part = cut_model(model, ["r"], ["y"])
    assert part.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    r = random_array(3, 4, 6, 6)
    assert run(part, {"r": r})[0].shape == (3, 4, 6, 6)


def test_types_that_inference_does_not_find() -> None:
    nodes = [helper.make_node("Magic", ["x"], ["m"], domain="other"), helper.make_node("Relu", ["m"], ["y"])]
    model = model_of(nodes, [value("x", [2])], [value("y", None)], domains=["other"])
    with pytest.raises(ModelError, match="cannot be cut at 'm': shape inference does not find its type"):
        cut_model(model, ["m"], ["y"])
    given = cut_model(model, ["m"], ["y"], types={"m": value("m", [None]).type})
    assert_close(run(given, {"m": random_array(5)})[0], np.maximum(random_array(5), 0))
    model.graph.value_info.append(value("m", [2]))
    assert cut_model(model, ["m"], ["y"]).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_an_initializer_can_become_an_input() -> None:
    part = cut_model(residual_model(), ["x", "w"], ["c"])
    assert names_of(part.graph.input) == ["x", "w"] and [t.name for t in part.graph.initializer] == ["b"]


def test_defaults_of_inputs_stay_defaults() -> None:
    model = residual_model()
    model.graph.input.append(value("w", [4, 4, 3, 3]))
    part = cut_model(model, ["r"], ["d"])
    assert names_of(part.graph.input) == ["r", "w"] and [t.name for t in part.graph.initializer] == ["w"]


@pytest.mark.parametrize("where", [(["nowhere"], ["y"]), (["x"], ["nowhere"])])
def test_tensors_that_do_not_exist(where: tuple[list[str], list[str]]) -> None:
    with pytest.raises(ModelError, match="cannot be cut at 'nowhere': its main graph has no tensor of that name"):
        cut_model(residual_model(), *where)


def test_tensors_of_bodies_are_not_of_the_main_graph() -> None:
    with pytest.raises(ModelError, match="cannot be cut at 't'"):
        cut_model(body_model(), ["a"], ["t"])


def test_external_tensors_stay_external(tmp_path: Path) -> None:
    onnx.save(residual_model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    part = cut_model(load_model(tmp_path / "m.onnx"), ["r"], ["y"])
    assert [is_external(t) for t in part.graph.initializer] == [True]
    save_model(part, tmp_path / "part.onnx")
    r = random_array(2, 4, 6, 6)
    expected = run(cut_model(residual_model(), ["r"], ["y"]), {"r": r})[0]
    assert_close(run(str(tmp_path / "part.onnx"), {"r": r})[0], expected)
