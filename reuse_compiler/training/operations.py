"""How many operations training with reuse takes, as the training paper counts them."""

from __future__ import annotations

from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.cost import predicted_cost
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Blocking, ConvGeometry


def training_cost(
    settings: LayerSettings,
    geometry: ConvGeometry,
    remaining_ratio: float,
    reuse_rate: float = 0.0,
    input_gradient: bool = True,
) -> float:
    """Returns the operations of a training step of a layer over those without reuse, as the training paper counts.

    Forward by Eq. 5 (Eq. 6 with `reuse_rate`), the weights' gradient by Eq. 12, the input's by Eq. 20. In layout
    `channel` a pixel is hashed once for all taps.
    """
    blocking = Blocking(geometry, settings.layout, settings.sub_vector_length)
    forward = predicted_cost(
        blocking,
        FAMILIES[settings.family],
        settings.num_hashes,
        remaining_ratio,
        reuse_rate,
        centroid_cost=1.0,
        gather_cost=1.0,
        input_pass_cost=0.0,
        output_pass_cost=0.0,
    ).total
    adds = (1.0 - remaining_ratio) * blocking.gathers_per_output / geometry.columns
    backward = adds + remaining_ratio + (remaining_ratio if input_gradient else 0.0)
    return (forward + backward) / (3.0 if input_gradient else 2.0)
