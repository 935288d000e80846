"""Checks the rewritten model against the one it came from: nothing changed that was not meant to."""

from __future__ import annotations

from collections import Counter

import onnx

from reuse_compiler.errors import PassError
from reuse_compiler.graph.structure import given_inputs, structure_errors, subgraphs_of
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
    before, after = Counter[str](), Counter[str]()
    _count(original.graph, before)
    _count(rewritten.graph, after)
    lowered = sum(after[op] - before[op] for op in LAST_OPERATORS)
    if lowered != layers:
        raise PassError(f"{lowered} layers were rewritten instead of {layers}")


def _count(graph: onnx.GraphProto, counts: Counter[str]) -> None:
    """Counts the operators of domain `ai.reuse` in a graph and its bodies."""
    for node in graph.node:
        if node.domain == DOMAIN:
            counts[node.op_type] += 1
        for body in subgraphs_of(node):
            _count(body, counts)
