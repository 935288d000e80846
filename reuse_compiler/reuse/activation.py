"""The activation that a convolution's operator applies to its result."""

from __future__ import annotations

from math import inf
from typing import NamedTuple


class Activation(NamedTuple):
    """Multiplies what is below 0 by `alpha`, then clips to `min`..`max`: none, Relu, Clip or LeakyRelu."""

    alpha: float = 1.0
    min: float = -inf
    max: float = inf


NO_ACTIVATION = Activation()
RELU = Activation(min=0.0)
