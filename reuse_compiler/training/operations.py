"""How many operations training with reuse takes, as the training paper counts them."""

from __future__ import annotations

from collections.abc import Mapping

from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.cost import counted_operations
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.training.function import Gradient
from reuse_compiler.training.layer import ReuseConv2d, ReuseCounts


def training_cost(
    settings: LayerSettings,
    spec: ConvSpec,
    remaining_ratio: float,
    reuse_rate: float = 0.0,
    input_gradient: Gradient | None = "averaged",
) -> float:
    """Returns the operations of a training step of a layer over those without reuse, as the training paper counts.

    Forward by Eq. 5 (Eq. 6 with `reuse_rate`), the weights' gradient by Eq. 12, the input's by Eq. 20 (by Eq. 3, a
    dense product, unless it is `averaged`; None: it needs none). In layout `channel` a pixel is hashed once for all
    taps.
    """
    blocking = settings.blocking(spec)
    family = FAMILIES[settings.family]
    forward = counted_operations(blocking, family, settings.num_hashes, remaining_ratio, reuse_rate)
    adds = (1.0 - remaining_ratio) * blocking.gathers_per_output / spec.columns
    for_input = {None: 0.0, "averaged": remaining_ratio}.get(input_gradient, 1.0)
    return (forward + adds + remaining_ratio + for_input) / (2.0 if input_gradient is None else 3.0)


class OperationMeter:
    """Adds up the operations of a converted model's convolutions over training, and what they would be without reuse.

    Call `add(steps)` every so often: what layers counted since the last call is taken for each of those steps. It
    needs the layers' `counts`, and resets them.
    """

    def __init__(self, layers: Mapping[str, ReuseConv2d], first: str | None = None) -> None:
        """`first` is the layer whose input needs no gradient."""
        self._layers, self._first = layers, first
        self.done, self.dense = 0.0, 0.0
        self.by_layer: dict[str, tuple[float, float]] = {}
        """r_c and R of each layer with reuse on, since the last call but one."""

    def add(self, steps: int) -> None:
        """Takes note of so many training steps."""
        self.by_layer = {}
        for name, layer in self._layers.items():
            g = layer.spec
            if g is None:
                continue
            passes = 2 if name == self._first else 3
            dense = float(passes * steps) * g.multiply_adds
            counts, layer.counts = layer.counts, ReuseCounts()
            cost = 1.0
            if layer.reuse and counts.runs:
                self.by_layer[name] = (counts.remaining_ratio, counts.reuse_rate)
                input_gradient = None if name == self._first else layer.gradient
                cost = training_cost(layer.settings, g, *self.by_layer[name], input_gradient)
            self.done += cost * dense
            self.dense += dense

    @property
    def saved(self) -> float:
        """The share of operations that reuse has saved; below 0 if it has taken more."""
        return 1.0 - self.done / self.dense if self.dense else 0.0
