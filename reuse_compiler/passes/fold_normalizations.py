"""Moves the normalization of a convolution's result into its weights and bias, as onnxruntime does with a Conv."""

from __future__ import annotations

import numpy as np

from reuse_compiler.graph.constants import Constant
from reuse_compiler.graph.tensors import to_tensor
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.layer import ConvLayer, Normalization


class FoldNormalizations(Pass):
    """Requires nothing.

    Ensures that those whose result is normalized have weights and bias that do it. Their nodes stay in the graph until
    the layer is lowered, so one that stays dense is as it was. Layers whose normalization does not fit keep it.
    """

    def run(self, context: PassContext) -> bool:
        for layer in context.chosen:
            if layer.normalization is not None:
                _fold(layer, layer.normalization)
        return False


def _fold(layer: ConvLayer, normalization: Normalization) -> None:
    weight = layer.weight.array.astype(np.float64)
    bias = 0.0 if layer.bias is None else layer.bias.array.astype(np.float64)
    scale = normalization.scale.reshape(-1, *[1] * (weight.ndim - 1))
    new_bias = bias * normalization.scale + normalization.shift
    layer.weight = Constant(to_tensor((weight * scale).astype(np.float32), "weights"), in_graph=False)
    layer.bias = Constant(to_tensor(new_bias.astype(np.float32), "bias"), in_graph=False)
