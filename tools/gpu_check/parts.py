"""The parts of the check, the cheapest and most telling first: what each runs, for how long, and what it proves."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from tools.gpu_check.prebuilt import Binaries, nvcc, toolkit_program

NEEDED = ("numpy", "onnx", "onnxruntime", "onnx_graphsurgeon", "pydantic", "hypothesis", "pytest", "rich", "typer")
"""Packages of all parts that use ONNX Runtime."""
SANITIZER_CASES = "4"
"""Random problems per kernel test under compute-sanitizer, where each takes about a hundred times as long."""
PACE = "{seconds}"
"""Stands in a command for the seconds after which the part shall end by itself."""


@dataclass(frozen=True)
class Part:
    """One command of the check."""

    name: str
    what: str
    command: list[str]
    least: int
    """Seconds below which it is not worth starting."""
    most: int
    """Seconds that it gets at most."""
    variables: dict[str, str] = field(default_factory=dict)
    """Of the environment."""
    programs: tuple[str, ...] = ()
    """Which must be there."""
    packages: tuple[str, ...] = ()
    """Of Python, likewise."""
    optional: bool = False
    """Runs only if it is asked for."""


def sanitizer() -> str:
    """The path of compute-sanitizer, or its name if it is not found."""
    return toolkit_program("compute-sanitizer")


def tests(*arguments: str) -> list[str]:
    """A run of pytest that says at once what it does and what fails, and does not go on failing."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--color=no"]
    return [*command, "--maxfail=3", "--tb=short", "-o", "faulthandler_timeout=60", *arguments]


def all_parts(folder: Path, binaries: Binaries, architecture: str) -> list[Part]:
    """Returns the parts in their order; those that measure write into `folder`."""
    library = {"REUSE_LIBRARY": str(binaries.library)}
    on_gpu = library | {"REUSE_REQUIRE_CUDA": "1"}
    device_tests, few = str(binaries.device_tests), {"REUSE_CUDA_CASES": SANITIZER_CASES}
    checked = [sanitizer(), "--error-exitcode", "9", "--print-limit", "5"]
    measure = [sys.executable, "-m", "tools.gpu_check.again", "--results", str(folder), "--seconds", PACE]
    build = Part(
        "build",
        f"the library and the kernel tests, with nvcc, for {architecture} only",
        [sys.executable, "-m", "tools.gpu_check.prebuilt", architecture],
        least=30, most=150, programs=(nvcc(),),
    )  # fmt: skip
    others = [
        Part(
            "kernels",
            "every kernel on the GPU against the CPU's, random problems, without ONNX Runtime",
            [device_tests],
            least=8, most=60, variables={"REUSE_CUDA_CASES": "60"}, programs=(device_tests,),
        ),
        Part(
            "session",
            "one session in ONNX Runtime: strict and TF32 results differ, float16 runs, a CUDA graph is replayed",
            tests("tests/cuda/test_first_session.py"),
            least=10, most=45, variables=on_gpu, packages=NEEDED,
        ),
        Part(
            "operators",
            "the operators in ONNX Runtime against the NumPy reference, CUDA graphs, several threads, statistics",
            tests("tests/cuda", "--ignore", "tests/cuda/test_first_session.py"),
            least=25, most=100, variables=on_gpu | {"REUSE_CUDA_EXAMPLES": "25"}, packages=NEEDED,
        ),
        Part(
            "layers",
            "layers beside ONNX Runtime's CUDA Conv (cuDNN) in the same process: batch 1, 16 and 128, TF32 on and off, "
            "float16, with and without CUDA graph, time per stage",
            [*measure, "layers"],
            least=30, most=110, variables=library, packages=NEEDED,
        ),
        Part(
            "memcheck",
            "the kernels under compute-sanitizer, few problems per test: reads and writes outside of memory",
            [*checked, "--tool", "memcheck", device_tests],
            least=15, most=60, variables=few, programs=(sanitizer(), device_tests),
        ),
        Part(
            "racecheck",
            "the same: threads that race for shared memory",
            [*checked, "--tool", "racecheck", device_tests],
            least=15, most=60, variables=few, programs=(sanitizer(), device_tests),
        ),
        Part(
            "networks",
            "CifarNet, VGG-19 and (if its file is in the cache) HED end to end, layers that do not gain left dense",
            [*measure, "networks"],
            least=25, most=80, variables=library, packages=NEEDED,
        ),
        Part(
            "steps",
            "training's forward and backward passes on the GPU against the CPU's, in PyTorch",
            tests("-p", "tests.cuda.stopping", "-k", "gpu and not host", "tests/training/test_cuda_clusters.py"),
            least=15, most=45, variables=on_gpu, packages=(*NEEDED, "torch"),
        ),
        Part(
            "training",
            "layers beside PyTorch's, forwards and backwards; VGG-19 on CIFAR-10 without reuse and with strategy 2 "
            "(needs PyTorch with CUDA and the data folder in REUSE_DATA)",
            [sys.executable, "-m", "tools.training_results", "gpu", "--epochs", "2", "--output", str(folder)],
            least=120, most=420, variables=library, packages=(*NEEDED, "torch"), optional=True,
        ),
    ]  # fmt: skip
    return [build, *others] if binaries.to_build else others
