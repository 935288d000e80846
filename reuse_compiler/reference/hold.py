"""Operator Hold: pixels that keep their value until they really change (docs/operators.md, Hold)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def hold(
    x: npt.NDArray[Any],
    held: npt.NDArray[Any] | None,
    tolerances: Sequence[float],
    *,
    opening: int = 0,
    dilation: int = 0,
    axis: int = 1,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Returns `Y`, which is what is held from then on, and the pixels `[N, H, W]` that took a new value.

    `held` is what the last run returned, None if there was none or its state is lost.
    """
    if held is None or held.shape != x.shape:
        return x, np.ones([size for i, size in enumerate(x.shape) if i not in (0, axis)], np.bool_)
    exact = np.float32 if x.dtype == np.float32 else np.int32
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.moveaxis(np.abs(x.astype(exact) - held.astype(exact)), axis, -1)
    differs = ~(difference <= np.array(tolerances, np.float32)).all(-1)
    opened = _spread(~_spread(~differs, opening), opening)
    changed = _spread(opened, dilation) | ~np.isfinite(difference).all(-1)
    return np.where(np.expand_dims(changed, axis), x, held), changed


def _spread(mask: Any, pixels: int) -> npt.NDArray[np.bool_]:
    """Returns where the mask `[N, H, W]` is set within so many rows and columns."""
    result: npt.NDArray[np.bool_] = np.zeros_like(mask)
    for n, row, column in np.argwhere(mask):
        result[n, max(0, row - pixels) : row + pixels + 1, max(0, column - pixels) : column + pixels + 1] = True
    return result
