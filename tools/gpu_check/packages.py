"""Prints the versions of Python packages as a line of JSON, after importing those that the check needs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json

from tools.gpu_check.parts import NEEDED

USEFUL = ("torch", "cupy")
"""Not imported: that takes seconds."""
LIBRARIES = ("nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cufft", "nvidia-cuda-runtime")
DISTRIBUTIONS = {"cupy": "cupy-cuda13x"}


def versions() -> dict[str, str]:
    """Returns the version of each package, or "missing" and why; and the providers of onnxruntime."""
    found = {}
    for name in NEEDED:
        try:
            found[name] = str(getattr(importlib.import_module(name), "__version__", "present"))
        except Exception as error:
            found[name] = f"missing ({type(error).__name__}: {error})"
    if not found["onnxruntime"].startswith("missing"):
        found["providers"] = ", ".join(importlib.import_module("onnxruntime").get_available_providers())
    for name in (*USEFUL, *LIBRARIES):
        try:
            found[name] = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):  # some packages greet when they are imported
        result = versions()
    print(json.dumps(result))
