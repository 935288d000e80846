"""Batch normalisation behind a model's convolutions while it is tuned, and folded into their weights afterwards.

Exported models have theirs folded, and then only small rates leave the scales of layers alone. With statistics of each
batch between them a layer gets inputs of the same size and mean whatever the layers before it have learned, also where
centroids that were fitted anew vary less than what they stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from reuse_compiler.training.conversion import convolutions
from reuse_compiler.training.evaluation import evaluating, watching


class OutputNorms:
    """Normalisation of the outputs of a model's convolutions that learn; no part of the model, which calls it by hooks.

    To begin with it leaves the outputs of `batches` as they are, all of them together.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Tensor]) -> None:
        self._model = model
        layers = {name: layer for name, layer in convolutions(model).items() if layer.weight.requires_grad}
        norms = {name: _norm(layer) for name, layer in layers.items()}

        def measure(name: str, module: nn.Conv2d, x: Tensor, y: Tensor) -> None:
            norms[name](y)  # what it returns would take the output's place

        with watching(layers, measure), evaluating(model):
            for batch in batches:
                model(batch)
        self._pairs = [(layers[name], norm) for name, norm in norms.items() if norm.num_batches_tracked]
        for _, norm in self._pairs:
            mean, deviation = _statistics(norm)
            with torch.no_grad():
                norm.weight.copy_(deviation)
                norm.bias.copy_(mean)
        self._handles = [
            layer.register_forward_hook(lambda module, inputs, y, norm=norm: norm(y)) for layer, norm in self._pairs
        ]

    def parameters(self) -> list[nn.Parameter]:
        """Returns what learns beside the model's own parameters."""
        return [own for _, norm in self._pairs for own in norm.parameters()]

    def fold(self, batches: Sequence[Tensor]) -> None:
        """Puts it into the convolutions' weights and biases, with statistics of these batches.

        A convolution without bias gets one.
        """
        for _, norm in self._pairs:
            norm.reset_running_stats()
        with evaluating(self._model):
            for batch in batches:
                self._model(batch)
        self.remove()
        for layer, norm in self._pairs:
            _fold(layer, norm)

    def remove(self) -> None:
        """Takes it away, and what it has learned with it."""
        for handle in self._handles:
            handle.remove()


def _norm(layer: nn.Conv2d) -> nn.BatchNorm2d:
    """Returns one whose statistics are the mean of those of all batches."""
    return nn.BatchNorm2d(layer.out_channels, momentum=None, device=layer.weight.device)


def _fold(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, deviation = _statistics(norm)
    with torch.no_grad():
        factors = norm.weight / deviation
        layer.weight.mul_(factors[:, None, None, None])
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(factors))
        layer.bias.copy_((layer.bias - mean) * factors + norm.bias)


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns mean and deviation of each channel."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, (norm.running_var + norm.eps).sqrt()
