"""Gives layers the weights that were fitted for them, in place of the model's."""

from __future__ import annotations

import numpy as np

from reuse_compiler.errors import ConfigError
from reuse_compiler.graph.constants import Constant
from reuse_compiler.graph.tensors import to_tensor
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.reuse.fitted import LayerWeights


class ReplaceWeights(Pass):
    """Requires nothing. Ensures that chosen layers with fitted weights have those; raises ConfigError for wrong shapes.

    Weights fitted for reuse would be wrong for the dense layer, so layers that stay dense keep their own.
    """

    def run(self, context: PassContext) -> bool:
        for layer in context.chosen:
            fitted = context.fitted.weights.get(layer.name)
            if fitted is not None:
                _replace(layer, fitted)
        return False


def _replace(layer: ConvLayer, fitted: LayerWeights) -> None:
    expected = layer.spec.weight_shape
    for name, array, shape in (("weight", fitted.weight, expected), ("bias", fitted.bias, expected[:1])):
        if array.shape != shape:
            raise ConfigError(f"layer '{layer.name}': '{name}' has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise ConfigError(f"layer '{layer.name}': '{name}' has values that are not finite")
    layer.weight = Constant(to_tensor(fitted.weight, "weights"), in_graph=False)
    layer.bias = Constant(to_tensor(fitted.bias, "bias"), in_graph=False)
