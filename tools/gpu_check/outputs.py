"""Outputs of a layer or a network beside each other: the error that reuse brings, and whether TF32 was on."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.verification.compare import Difference

ModeName = Literal["float32", "TF32", "float16"]
MOST_COMPARED = 2**22
"""Elements. Of larger outputs some images are looked at, the first and the last among them: a GPU's minutes are few."""


class Outputs:
    """Of one model on one input, in several modes, float32 before TF32."""

    def __init__(self) -> None:
        self._in_float32: dict[str, NDArray[Any]] = {}

    def compare(self, mode: ModeName, dense: NDArray[Any], reuse: NDArray[Any]) -> dict[str, Any]:
        """Returns the relative L2 error of the form with reuse; for TF32 also whether each form differs from float32.

        A form that is equal to the last bit has not been run with TF32, or was run with TF32 both times.
        """
        forms = {"dense": sample(dense), "reuse": sample(reuse)}
        difference = Difference()
        difference.add(forms["dense"].astype(np.float32), forms["reuse"].astype(np.float32))
        found: dict[str, Any] = {"error": difference.rel_error}
        if mode == "float32":
            self._in_float32 = forms
        elif mode == "TF32" and self._in_float32:
            found["differs_from_float32"] = {
                form: not np.array_equal(values, self._in_float32[form]) for form, values in forms.items()
            }
        return found


def sample(output: NDArray[Any]) -> NDArray[Any]:
    """Returns the output, or as many of its images, evenly spread, as have at most `MOST_COMPARED` elements."""
    images = len(output)
    if output.size <= MOST_COMPARED or images == 0:
        return output
    count = max(2, MOST_COMPARED // (output.size // images))
    chosen: NDArray[Any] = output[np.unique(np.linspace(0, images - 1, min(count, images)).round().astype(int))]
    return chosen
