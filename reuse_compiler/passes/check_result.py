"""Checks the rewritten model against the one it came from: nothing changed that was not meant to."""

from __future__ import annotations

import onnx

from reuse_compiler.errors import PassError
from reuse_compiler.graph.structure import all_nodes, given_inputs, structure_errors
from reuse_compiler.passes.lower_to_reuse import DOMAIN

LAST_OPERATORS = ("ReuseConv", "QLinearReuseConv", "ReuseConvInteger", "Gather")
"""One of them computes the result of each rewritten layer."""


def check_result(original: onnx.ModelProto, rewritten: onnx.ModelProto, layers: int) -> None:
    """Raises PassError unless the structure is sound, inputs and outputs are the same, and `layers` were lowered."""
    errors = structure_errors(rewritten)
    if errors:
        raise PassError(f"the rewritten model is unsound: {errors[0]}")
    if list(rewritten.graph.output) != list(original.graph.output):
        raise PassError("the model's outputs changed")
    # Initializers that older models must have among them may go.
    if given_inputs(rewritten.graph) != given_inputs(original.graph):
        raise PassError("the model's inputs changed")
    lowered = _results(rewritten) - _results(original)
    if lowered != layers:
        raise PassError(f"{lowered} layers were rewritten instead of {layers}")


def _results(model: onnx.ModelProto) -> int:
    """Counts the nodes that compute results of rewritten layers, those of bodies too."""
    return sum(node.domain == DOMAIN and node.op_type in LAST_OPERATORS for node in all_nodes(model.graph.node))
