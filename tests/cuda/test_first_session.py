"""What must hold before anything else is worth its time: a session on CUDA, its three modes of numbers, and a graph.

A few seconds; `make gpu-check` runs this before all other tests with ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from reuse_compiler.reuse.geometry import ConvGeometry
from tests.comparison import relative_error
from tests.cuda.running import Array, DeviceRun, cuda_session, rounded, run_cuda
from tests.custom_ops.cases import Case
from tests.running import run_kernels
from tools.gpu_check.models import in_half

CASE = Case(ConvGeometry(4, 32, 28, 30, 70, (3, 3), (1, 1), (1, 1, 1, 1)), "channel", 16, "learned", 8, seed=5)
OUTPUT = (4, 70, 28, 30)
ROUNDED = 4e-3
"""What operands of 11 bits may change."""


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return CASE.model("fused", dynamic=False)


@pytest.fixture(scope="module")
def expected(model: onnx.ModelProto) -> Array:
    return run_kernels(model, CASE.data()[0])


@pytest.fixture(autouse=True)
def modes_are_not_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REUSE_CUDA_TF32", raising=False)


def test_a_session_computes_what_the_cpu_does(model: onnx.ModelProto, expected: Array) -> None:
    assert relative_error(run_cuda(model, CASE.data()[0]), expected) < 1e-5


@pytest.mark.parametrize("told_by", ["the provider's option", "the environment"])
def test_tf32_is_on_where_it_is_asked_for(
    told_by: str, model: onnx.ModelProto, expected: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results that are equal to the last bit mean that TF32 was off all the time, or on all the time."""
    results = {}
    for tf32 in (False, True):
        if told_by == "the environment":
            monkeypatch.setenv("REUSE_CUDA_TF32", str(int(tf32)))
            results[tf32] = run_cuda(model, CASE.data()[0], tf32=not tf32)
        else:
            results[tf32] = run_cuda(model, CASE.data()[0], tf32=tf32)
    assert not np.array_equal(results[True], results[False])
    assert relative_error(results[False], expected) < 1e-5
    assert 1e-5 < relative_error(results[True], expected) < ROUNDED


def test_float16_runs(model: onnx.ModelProto) -> None:
    """Beside float32 on the same rounded numbers: rounding X puts some vectors into other clusters."""
    x = CASE.data()[0].astype(np.float16)
    half = run_cuda(in_half(model), x)
    assert half.dtype == np.float16
    assert relative_error(half.astype(np.float32), run_kernels(rounded(model), x.astype(np.float32))) < ROUNDED


def test_a_graph_is_captured_and_replayed(model: onnx.ModelProto, expected: Array) -> None:
    x = CASE.data()[0]
    run = DeviceRun(cuda_session(model, cuda_graph=True), x, OUTPUT)
    first = run()
    assert relative_error(first, expected) < 1e-5
    other = replace(CASE, seed=6).data()[0]
    replayed = run(other)
    assert relative_error(replayed, run_kernels(model, other)) < 1e-5
    np.testing.assert_array_equal(run(x), first)
