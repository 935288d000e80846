"""What makes trees fit for a walk by bytes (ByteTree in custom_ops/cpu/simd/kernels.h), computed another way."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def spans(coordinates: NDArray[np.int32], thresholds: NDArray[np.float32]) -> list[int]:
    """Returns by coordinate how many steps the finite thresholds span, on the coarsest grid that has all of them.

    The steps of a grid are a power of two, and its points are multiples of it.
    """
    found = []
    for coordinate in np.unique(coordinates):
        own = thresholds[(coordinates == coordinate) & np.isfinite(thresholds)]
        exact = [Fraction(float(value)) for value in own]
        scale = max((value.denominator for value in exact), default=1)
        whole = [int(value * scale) for value in exact]
        while any(whole) and all(value % 2 == 0 for value in whole):
            whole = [value // 2 for value in whole]
        found.append(max(whole, default=0) - min(whole, default=0))
    return found
