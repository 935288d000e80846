"""The C++ program of docs/neighbours.md is built by the command there, and runs a compiled model.

ORT_HOME is a release of onnxruntime. Without it, the library is the Python package's, and stand_in has the header.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from reuse_compiler.runtime.library import library_path
from tests.comparison import assert_close
from tests.neighbours.recipes import SIZE, compiled, network, outputs, own_nodes, recipe
from tools.cpp_build import ROOT


def release(folder: Path) -> dict[str, str]:
    """Returns the variables that name a release of onnxruntime, which is laid out in the folder if there is none."""
    if "ORT_HOME" in os.environ:
        return {"ORT_HOME": os.environ["ORT_HOME"]}
    packaged = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not packaged:
        pytest.skip("this onnxruntime has no libonnxruntime.so of its own: set ORT_HOME to a release of it")
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(packaged[0])
    (folder / "include").symlink_to(Path(__file__).parent / "stand_in")
    return {"ORT_HOME": str(folder), "CPLUS_INCLUDE_PATH": str(ROOT / "custom_ops" / "ort")}


def test_the_program(folder: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("this machine has no C++ compiler")
    (folder / "run_model.cc").write_text(recipe("C++", "cpp"), encoding="utf-8")
    (folder / "libreuse_ops.so").symlink_to(library_path())
    # Without functions in it, the model runs with the library only.
    onnx.save(compiled(network(), fallback=False), "model.reuse.onnx")
    assert own_nodes(onnx.load("model.reuse.onnx"))
    (folder / "release").mkdir()
    environment = os.environ | release(folder / "release")
    done = subprocess.run(
        ["bash", "-e", "-c", recipe("C++", "sh")], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    printed = np.array([done.stdout.split()], np.float32)
    assert_close(printed, outputs(network(), np.full((1, 3, SIZE, SIZE), 0.5, np.float32), library=False))
    wrong = subprocess.run(["./run_model", "./nowhere.so", "model.reuse.onnx"], env=environment, stderr=subprocess.PIPE)
    assert wrong.returncode == 1 and b"nowhere.so" in wrong.stderr
