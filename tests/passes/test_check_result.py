"""Damage to a model is noticed."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from reuse_compiler.errors import PassError
from reuse_compiler.passes.check_result import check_result
from reuse_compiler.pipeline import lower
from tests.passes.models import EXACT, conv_model

ORIGINAL = conv_model()


def rewritten() -> onnx.ModelProto:
    return lower(ORIGINAL, EXACT).model


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = model.graph.output[0].name = "renamed"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda model: model.graph.node[0].input.__setitem__(1, "lost"), "unsound: .* reads 'lost'"),
        (rename_output, "the model's outputs changed"),
        (lambda model: model.graph.input[0].type.tensor_type.shape.dim[0].Clear(), "inputs changed"),
        (lambda model: setattr(model.graph.node[0], "op_type", "Conv"), "0 layers were rewritten instead of 1"),
    ],
)
def test_damage_is_noticed(damage: Callable[[onnx.ModelProto], object], sentence: str) -> None:
    model = rewritten()
    damage(model)
    with pytest.raises(PassError, match=sentence):
        check_result(ORIGINAL, model, 1)


def test_a_good_result_passes() -> None:
    check_result(ORIGINAL, rewritten(), 1)
