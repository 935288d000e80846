"""What all that is measured for docs/results says of where it was measured, and how it writes errors."""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import BaseModel

from reuse_compiler.environment import processor, versions
from reuse_compiler.verification.compare import Difference


class Measured(BaseModel):
    """Results, and where they come from."""

    processor: str
    versions: dict[str, str]

    @classmethod
    def here(cls, **results: Any) -> Self:
        """Returns these results of this machine."""
        return cls(processor=processor(), versions=versions(), **results)


def finite_psnr(difference: Difference) -> float | None:
    """Returns the PSNR, or None where it is infinite, as that of equal tensors is: JSON has no such number."""
    return difference.psnr if math.isfinite(difference.psnr) else None


def decibels(psnr: float | None) -> str:
    """Returns a cell of a table that is printed, of what `finite_psnr` has returned."""
    return "-" if psnr is None else f"{psnr:.1f}"
