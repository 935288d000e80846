"""Operator Hold: pixels that keep their value until they really change (docs/operators.md, Hold)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Held:
    """What a run leaves to the next one."""

    image: npt.NDArray[Any]
    """`Y`."""
    halfway: npt.NDArray[np.int64]
    """For how many runs in a row each pixel `[N, H, W]` has differed by more than half of the tolerance."""
    runs: int = 0
    """Since `X` was taken as a whole."""


def hold(
    x: npt.NDArray[Any],
    held: Held | None,
    tolerances: Sequence[float],
    *,
    opening: int = 0,
    dilation: int = 0,
    patience: int = 0,
    axis: int = 1,
) -> tuple[Held, npt.NDArray[np.bool_]]:
    """Returns what is held from then on, `Y` with it, and the pixels `[N, H, W]` that took a new value.

    `held` is what the last run returned, None if there was none or its state is lost.
    """
    if held is None or held.image.shape != x.shape:
        pixels = tuple(size for i, size in enumerate(x.shape) if i != axis)
        return Held(x, np.zeros(pixels, np.int64)), np.ones(pixels, np.bool_)
    exact = np.float32 if x.dtype == np.float32 else np.int32
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.moveaxis(np.abs(x.astype(exact) - held.image.astype(exact)), axis, -1)
    most = np.array(tolerances, np.float32)
    differs, differs_halfway = (~(difference <= limit).all(-1) for limit in (most, most / 2))
    runs, halfway = held.runs + 1, np.where(differs_halfway, held.halfway + 1, 0)
    is_due = patience > 0 and runs % patience == 0
    centres = ~_spread(~differs, opening) | (halfway >= patience if is_due else False)
    changed = _spread(centres, opening + dilation) | ~np.isfinite(difference).all(-1)
    return Held(np.where(np.expand_dims(changed, axis), x, held.image), halfway, runs), changed


def _spread(mask: Any, pixels: int) -> npt.NDArray[np.bool_]:
    """Returns where the mask `[N, H, W]` is set within so many rows and columns."""
    result: npt.NDArray[np.bool_] = np.zeros_like(mask)
    for n, row, column in np.argwhere(mask):
        result[n, max(0, row - pixels) : row + pixels + 1, max(0, column - pixels) : column + pixels + 1] = True
    return result
