"""A model may have functions of domain `ai.reuse`: ONNX lets them go before any operator of their name."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from reuse_compiler.errors import ModelError
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from tests.comparison import assert_close
from tests.passes.models import EXACT, OPSET, conv_model, operators, random_array, run

node = helper.make_node


def model_with_function(name: str) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", OPSET)]
    function = helper.make_function("ai.reuse", name, ["X", "W"], ["Y"], [node("Mul", ["X", "X"], ["Y"])], opsets)
    model = conv_model(activation=node(name, ["c", "w"], ["y"], domain="ai.reuse"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("ai.reuse", 1))
    return model


@pytest.mark.parametrize("name", ["ReuseConv", "Cluster", "MaxPool"])
def test_the_name_of_an_operator_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"a function of its own named 'ai.reuse.{name}'.*give .* another name"):
        lower(model_with_function(name), EXACT)


def test_a_model_that_is_not_rewritten_may_have_one() -> None:
    model = model_with_function("Cluster")
    assert lower(model, CompileOptions(exclude=".")).model is model


def test_another_name_stays() -> None:
    model, feed = model_with_function("Square"), {"x": random_array(1, 4, 8, 8)}
    lowered = lower(model, EXACT).model
    assert "Square" in [function.name for function in lowered.functions]
    assert_close(run(lowered, feed)[0], run(model, feed)[0])


def test_a_compiled_model_is_compiled_further() -> None:
    model = conv_model(weights=(4, 4, 3, 3), activation=node("Conv", ["c", "w"], ["y"], name="second"))
    once = lower(model, EXACT.model_copy(update={"exclude": "second"})).model
    twice = lower(once, EXACT.model_copy(update={"layers": "second"})).model
    assert operators(twice.graph) == ["ReuseConv", "ReuseConv"]
    feed = {"x": random_array(1, 4, 8, 8)}
    assert_close(run(twice, feed)[0], run(model, feed)[0])
