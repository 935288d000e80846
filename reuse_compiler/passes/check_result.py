"""Checks the rewritten model against the one it came from: nothing changed that was not meant to."""

from __future__ import annotations

from collections import Counter

import onnx

from reuse_compiler.graph.structure import structure_errors, subgraphs_of
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.lower_to_reuse import DOMAIN


class CheckResult(Pass):
    """Requires nothing. Ensures a sound structure, the original's inputs and outputs, and one rewrite per layer."""

    def run(self, context: PassContext) -> bool:
        return False

    def ensures(self, context: PassContext) -> str | None:
        errors = structure_errors(context.model)
        if errors:
            return f"the rewritten model is unsound: {errors[0]}"
        for kind in ("input", "output"):
            if list(getattr(context.model.graph, kind)) != list(getattr(context.original.graph, kind)):
                return f"the model's {kind}s changed"
        before, after = Counter[str](), Counter[str]()
        _count(context.original.graph, before)
        _count(context.model.graph, after)
        rewritten = after["ReuseConv"] + after["Gather"] - before["ReuseConv"] - before["Gather"]
        if rewritten != len(context.chosen):
            return f"{rewritten} layers were rewritten instead of {len(context.chosen)}"
        return None


def _count(graph: onnx.GraphProto, counts: Counter[str]) -> None:
    """Counts the operators of domain `ai.reuse` in a graph and its bodies."""
    for node in graph.node:
        if node.domain == DOMAIN:
            counts[node.op_type] += 1
        for body in subgraphs_of(node):
            _count(body, counts)
