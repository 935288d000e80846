"""Infers the shapes of all tensors for the sizes that the user gave or the compiler assumes."""

from __future__ import annotations

from reuse_compiler.graph.shapes import bind_shapes, infer_shapes
from reuse_compiler.passes.base import Pass, PassContext


class InferShapes(Pass):
    """Requires nothing. Ensures `context.bound` and `context.shapes`; raises ConfigError for a wrong `--shape`."""

    def run(self, context: PassContext) -> bool:
        context.bound = bind_shapes(context.model, context.options.shapes)
        context.shapes = infer_shapes(context.model, context.bound)
        return False

    def ensures(self, context: PassContext) -> str | None:
        return "shapes are missing" if context.shapes is None else None
