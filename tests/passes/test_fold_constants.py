"""Constants that feed convolutions are evaluated, and the model stays as it is."""

from __future__ import annotations

import numpy as np
from onnx import helper

from reuse_compiler.graph.tensors import to_array
from reuse_compiler.passes.base import run_passes
from reuse_compiler.passes.fold_constants import FoldConstants
from tests.passes.models import context_of, conv_model, random_array, tensor


def test_computed_weights_are_found_and_the_model_is_not_changed() -> None:
    model = conv_model()
    model.graph.node[0].input[1] = "wt"
    model.graph.node.insert(0, helper.make_node("Transpose", ["hwio"], ["wt"], perm=[3, 2, 0, 1]))
    hwio = random_array(3, 3, 4, 6)
    model.graph.initializer.append(tensor("hwio", hwio))
    context = context_of(model)
    assert run_passes([FoldConstants()], context) is False
    assert context.model == model
    conv = context.view.nodes()[1]
    found = context.constants.find(conv.node.inputs[1], conv.scope)
    np.testing.assert_array_equal(to_array(found.tensor), hwio.transpose(3, 2, 0, 1))


def test_weights_that_are_not_constant_are_no_error() -> None:
    model = conv_model()
    model.graph.node[0].input[1] = "x"
    assert run_passes([FoldConstants()], context_of(model)) is False
