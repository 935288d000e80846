"""The parts of the check in their order: what each runs, for how long at most, and what it proves."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tools.cpp_build import ROOT

BUILD = ROOT / "build" / "gpu"
LIBRARY = BUILD / "libreuse_ops.so"
DEVICE_TESTS = BUILD / "tests" / "cuda_device_tests"
GPU_TESTS = ("tests/cuda", "tests/training/test_cuda_clusters.py")
SANITIZER_CASES = "4"
"""Random problems per kernel test under compute-sanitizer, where each takes about a hundred times as long."""


@dataclass(frozen=True)
class Part:
    """One command of the check."""

    name: str
    what: str
    command: list[str]
    limit: int
    """Seconds."""
    variables: dict[str, str] = field(default_factory=dict)
    """Of the environment."""
    programs: tuple[str, ...] = ()
    """Which must be on the path."""
    optional: bool = False
    """Runs only if it is asked for: it has a limit of its own, beside what all others share."""


def nvcc() -> str:
    """The CUDA compiler's path, or its name if it is not found."""
    usual = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.is_file() else "nvcc")


def sanitizer() -> str:
    """The path of compute-sanitizer, or its name if it is not found."""
    usual = Path("/usr/local/cuda/bin/compute-sanitizer")
    return shutil.which("compute-sanitizer") or (str(usual) if usual.is_file() else "compute-sanitizer")


def all_parts(results: Path, architecture: str, seconds: int) -> list[Part]:
    """Returns the parts; those that measure write into the folder `results`. All but optional ones share `seconds`."""
    python, share = sys.executable, seconds / 460

    def limit(usual: int) -> int:
        return max(5, round(usual * share))

    options = ["-DREUSE_CUDA=ON", "-DREUSE_BUILD_TESTS=ON", f"-DCMAKE_CUDA_ARCHITECTURES={architecture}"]
    library = {"REUSE_LIBRARY": str(LIBRARY)}
    few = {"REUSE_CUDA_CASES": SANITIZER_CASES}
    checked = [sanitizer(), "--error-exitcode", "9", "--print-limit", "5"]
    measure = [python, "-m", "tools.gpu_check.measure", "--results", str(results)]
    return [
        Part(
            "build",
            f"the library and the kernel tests, with nvcc, for {architecture} only",
            [python, "-m", "tools.cpp_build", str(BUILD), *options],
            limit(150),
            programs=(nvcc(),),
        ),
        Part(
            "kernels",
            "every kernel on the GPU against the CPU's, random problems, without ONNX Runtime",
            [str(DEVICE_TESTS)],
            limit(60),
            {"REUSE_CUDA_CASES": "60"},
        ),
        Part(
            "memcheck",
            "the same under compute-sanitizer, few problems per test: reads and writes outside of memory",
            [*checked, "--tool", "memcheck", str(DEVICE_TESTS)],
            limit(60),
            few,
            (sanitizer(),),
        ),
        Part(
            "racecheck",
            "the same: threads that race for shared memory",
            [*checked, "--tool", "racecheck", str(DEVICE_TESTS)],
            limit(60),
            few,
            (sanitizer(),),
        ),
        Part(
            "operators",
            "the operators in ONNX Runtime against the NumPy reference, CUDA graphs, several threads; where there is a "
            "PyTorch, training's forward and backward pass against the CPU's",
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not host", *GPU_TESTS],
            limit(110),
            library | {"REUSE_CUDA_EXAMPLES": "25", "REUSE_REQUIRE_CUDA": "1"},
        ),
        Part(
            "layers",
            "layers beside ONNX Runtime's CUDA Conv (cuDNN) in the same process: batch 1, 16 and 128, TF32 on and off, "
            "float16, with and without CUDA graph, time per stage",
            [*measure, "layers", "--seconds", str(limit(125))],
            limit(140),
            library,
        ),
        Part(
            "networks",
            "CifarNet, VGG-19 and (if its file is in the cache) HED end to end, layers that do not gain left dense",
            [*measure, "networks", "--seconds", str(limit(65))],
            limit(80),
            library,
        ),
        Part(
            "training",
            "layers beside PyTorch's, forwards and backwards; VGG-19 on CIFAR-10 without reuse and with strategy 2; "
            "into docs/results (needs PyTorch with CUDA and the data folder in REUSE_DATA)",
            [python, "-m", "tools.training_results", "gpu", "--epochs", "2"],
            420,
            library,
            optional=True,
        ),
    ]
