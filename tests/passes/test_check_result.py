"""Damage to a model is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reuse_compiler.errors import PassError
from reuse_compiler.passes.base import Pass, PassContext, run_passes
from reuse_compiler.passes.check_result import CheckResult
from reuse_compiler.pipeline import PASSES
from tests.passes.models import EXACT, context_of, conv_model


class Damage(Pass):
    """Does something to the rewritten model that no pass may do."""

    def __init__(self, damage: Callable[[PassContext], object]) -> None:
        self._damage = damage

    def run(self, context: PassContext) -> bool:
        self._damage(context)
        return True


def rename_output(context: PassContext) -> None:
    context.model.graph.node[0].output[0] = context.model.graph.output[0].name = "renamed"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda context: context.model.graph.node[0].input.__setitem__(1, "lost"), "unsound: .* reads 'lost'"),
        (rename_output, "the model's outputs changed"),
        (lambda context: context.model.graph.input[0].type.tensor_type.shape.dim[0].Clear(), "inputs changed"),
        (lambda context: context.layers.clear(), "1 layers were rewritten instead of 0"),
    ],
)
def test_damage_is_noticed(damage: Callable[[PassContext], object], sentence: str) -> None:
    with pytest.raises(PassError, match=f"pass CheckResult broke its promise: .*{sentence}"):
        run_passes([*PASSES[:-1], Damage(damage), CheckResult()], context_of(conv_model(), EXACT))


def test_a_good_result_passes() -> None:
    assert run_passes(PASSES, context_of(conv_model(), EXACT)) is True
