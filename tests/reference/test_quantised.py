"""The reference of QLinearReuseConv against onnxruntime's QLinearConv, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from reuse_compiler.reference.quantised import requantised
from tests.custom_ops.quantised_cases import QuantisedCase, quantised_cases
from tests.running import make_session, run_reference


@settings(max_examples=100, deadline=None)
@given(case=quantised_cases(only_runtime_types=True))
def test_reference_is_onnxruntimes_convolution(case: QuantisedCase) -> None:
    x = case.x()
    expected = make_session(case.original()).run(None, {"X": x})[0]
    np.testing.assert_array_equal(run_reference(case.model(), x), expected, strict=True)


def test_requantisation_by_hand() -> None:
    one = np.ones((), np.float32)
    sums = np.array([-7, -1, 1, 3, 5, 511, 2**31 - 1, -(2**31)], np.int32).reshape(1, 1, 1, 8)
    # Halves are rounded to even before the zero point is added, and what is outside of the type is cut off.
    y = requantised(sums, one, one, np.array(2, np.float32), np.array(3, np.uint8))
    assert y.flatten().tolist() == [0, 3, 3, 5, 5, 255, 255, 0]
    y = requantised(sums, one, one, np.array(2, np.float32), np.array(-128, np.int8))
    assert y.flatten().tolist() == [-128, -128, -128, -126, -126, 127, 127, -128]
    # A sum of more than 24 bits is rounded when it becomes float32.
    scale = np.array(2**18, np.float32)
    assert requantised(np.full((1, 1, 1, 1), 2**24 + 1, np.int32), one, one, scale, np.array(0, np.uint8)) == 64
