"""QLinearReuseConv against onnxruntime's QLinearConv and against the reference, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

import reuse_compiler
from reuse_compiler.reuse.geometry import ConvSpec
from tests.custom_ops.quantised_cases import QuantisedCase, quantised_cases, runtime_saturates
from tests.running import make_session, run_kernels, run_reference


@settings(max_examples=300, deadline=None)
@given(case=quantised_cases(only_runtime_types=True))
def test_kernel_is_onnxruntimes_convolution(case: QuantisedCase) -> None:
    x = case.x()
    expected = make_session(case.original()).run(None, {"X": x})[0]
    np.testing.assert_array_equal(run_kernels(case.model(), x), expected, strict=True)


@settings(max_examples=200, deadline=None)
@given(case=quantised_cases())
def test_kernel_matches_reference(case: QuantisedCase) -> None:
    x = case.x()
    np.testing.assert_array_equal(run_kernels(case.model(), x), run_reference(case.model(), x), strict=True)
