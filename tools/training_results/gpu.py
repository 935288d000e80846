"""VGG-19 on CIFAR-10 on a GPU, without reuse and with strategy 2; the optional part of checks on a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.runtime.library import has_cuda
from tools.training_results.results import Strategies

COMMON = ("--batch", "128", "--device", "cuda", "--precision", "float32")
RUNS = {
    "none": (),
    "s2": ("--strategy", "2", "--family", "learned", "--layers", "^conv[2-5]", "--dense-last", "--gradient",
           "straight_through"),
}  # fmt: skip


def missing() -> str | None:
    """Returns what a measurement on a GPU lacks here, or None."""
    import torch

    if not torch.cuda.is_available():
        return "this needs a CUDA device and a PyTorch with CUDA"
    return None if has_cuda() else "this needs an operator library with CUDA kernels: REUSE_CUDA=ON pip install ."


def measure_gpu(command: str, epochs: int) -> Strategies:
    """Runs models.train twice."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in RUNS.items():
            log = Path(folder) / name
            words = [sys.executable, "-m", "models.train", "vgg19", "--epochs", str(epochs), *COMMON, *options]
            subprocess.run([*words, "--log", str(log), "--output", str(log.with_suffix(".npz"))], check=True)
            found[name] = [json.loads((log / "training.json").read_text(encoding="utf-8"))]
    return Strategies(command=command, machine=describe_machine(), network="VGG-19 on a GPU", runs=found)
