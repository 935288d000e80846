"""A GPU that is lost ends the run of tests at once, and a property that fails is not tried for long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.cuda import conftest, stopping
from tools.cpp_build import ROOT
from tools.gpu_check.sticky import sticky_error


@pytest.mark.parametrize(
    "message",
    [
        "ReuseConv: an illegal memory access was encountered",
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "RuntimeError: CUDA error: device-side assert triggered",
        "synchronize: unspecified launch failure",
        "CUDA_ERROR_MISALIGNED_ADDRESS: misaligned address",
        "cudaErrorIllegalInstruction",
        "cupy_backends.cuda.api.driver.CUDADriverError: CUDA_ERROR_LAUNCH_FAILED",
        "uncorrectable ECC error encountered",
        "CUDA failure 719",
    ],
)
def test_errors_after_which_nothing_runs_are_known(message: str) -> None:
    assert sticky_error(message) is not None


@pytest.mark.parametrize(
    "message",
    [
        "AssertionError: fused: at (0, 1, 2) 3.0, expected 700.0",
        "CUDA failure 2: out of memory",
        "CUDA error: invalid configuration argument",
        "CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED",
        "coordinates hold 16, must be 0 to 15",
    ],
)
def test_other_errors_end_one_test_only(message: str) -> None:
    assert sticky_error(message) is None


SUITE = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError({setup!r})

def test_first():
    raise RuntimeError({first!r})

def test_second(broken):
    pass

def test_third():
    pass
"""


def run_suite(folder: Path, first: str, setup: str) -> str:
    (folder / "test_suite.py").write_text(SUITE.format(first=first, setup=setup))
    command = [sys.executable, "-m", "pytest", "-v", "-p", "tests.cuda.stopping", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "-c", "/dev/null", str(folder / "test_suite.py")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_a_lost_gpu_stops_the_tests(tmp_path: Path) -> None:
    out = run_suite(tmp_path, first="CUDA error: misaligned address", setup="no")
    assert "the GPU is lost to this process after" in out and "misaligned address" in out
    assert "1 failed" in out and "test_second" not in out and "test_third" not in out


def test_it_may_be_lost_before_a_test_begins(tmp_path: Path) -> None:
    out = run_suite(tmp_path, first="another", setup="CUDA failure 719: unspecified launch failure")
    assert "1 failed, 1 error" in out and "test_second" in out and "test_third" not in out


def test_other_failures_do_not_stop_the_tests(tmp_path: Path) -> None:
    out = run_suite(tmp_path, first="out of memory", setup="no")
    assert "1 failed, 1 passed, 1 error" in out and "lost" not in out


def test_the_tests_on_cuda_stop_so() -> None:
    assert conftest.pytest_runtest_makereport is stopping.pytest_runtest_makereport


def test_a_property_that_fails_on_cuda_is_not_shrunk() -> None:
    """The first failing case is run once more to be reported, and is the same every time."""
    profile = settings.get_profile("cuda")
    assert profile.derandomize and set(profile.phases) == {Phase.explicit, Phase.generate}
    usual = settings.default
    assert usual is not None and Phase.shrink in usual.phases, "other tests keep their own settings"
    drawn: list[int] = []

    @settings(profile, max_examples=50)
    @given(number=st.integers(0, 10_000))
    def property_test(number: int) -> None:
        drawn.append(number)
        assert number < 20

    for _ in range(2):
        drawn.append(-1)
        with pytest.raises(AssertionError):
            property_test()
    first, second = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert first == second
    failing = [number for number in first if number >= 20]
    assert len(set(failing)) == 1 and len(failing) <= 3 and first[-1] == failing[0]
