"""Finds the constants that feed convolutions: weights, biases, and the bounds of Clip, computed where operators do."""

from __future__ import annotations

import contextlib

from reuse_compiler.graph.constants import NotConstantError
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.convolution_operators import declined_operator, is_convolution


class FoldConstants(Pass):
    """Requires nothing. Ensures that `context.constants` knows every constant that a Conv reads.

    The model is not changed: a layer that stays dense keeps the operators that compute its weights. LowerToReuse puts
    the folded values where they are used.
    """

    def run(self, context: PassContext) -> bool:
        for ref in context.view.nodes():
            if is_convolution(ref.proto) and declined_operator(ref.proto) is None:
                for tensor in ref.node.inputs[1:3]:
                    if not tensor.is_empty():
                        with contextlib.suppress(NotConstantError):  # CheckLegality asks again and reports it
                            context.constants.find(tensor, ref.scope)
        return False
