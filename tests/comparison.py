"""One way to compare arrays in all tests: the error is one number, and a mismatch tells where."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def relative_error(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Returns |actual - expected| / |expected| in the L2 norm (the plain norm if expected is zero)."""
    difference = np.linalg.norm(actual.astype(np.float64) - expected.astype(np.float64))
    scale = np.linalg.norm(expected.astype(np.float64))
    return float(difference / scale) if scale > 0 else float(difference)


def assert_close(
    actual: npt.NDArray[Any], expected: npt.NDArray[Any], *, rtol: float = 1e-4, atol: float = 1e-5, what: str = ""
) -> None:
    """Fails with the place and values of the worst mismatch; tolerances are relative to the largest expected value."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if expected.size == 0:
        return
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), err_msg=f"{what}: NaN in other places")
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(np.where(infinite, actual, 0), np.where(infinite, expected, 0), err_msg=what)
    finite = np.isfinite(expected)
    if not finite.any():
        return
    scale = float(np.abs(expected[finite]).max())
    difference = np.where(finite, np.abs(np.where(finite, actual, 0) - np.where(finite, expected, 0)), 0)
    worst = np.unravel_index(int(difference.argmax()), difference.shape)
    assert difference[worst] <= atol + rtol * scale, (
        f"{what}: at {tuple(int(i) for i in worst)} {actual[worst]!r}, expected {expected[worst]!r} "
        f"(difference {difference[worst]:.3g}, allowed {atol + rtol * scale:.3g})"
    )
