"""Which onnxruntime versions are accepted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime.engine import check_version, import_onnxruntime


@pytest.mark.parametrize("found", ["1.18", "1.18.0", "1.20.1", "1.32.0", "1.21.0.dev20250101", "2.0.0"])
def test_new_enough(found: str) -> None:
    check_version(found)


@pytest.mark.parametrize("found", ["1.17.3", "1.2.0", "0.5.0", "unknown"])
def test_too_old(found: str) -> None:
    with pytest.raises(LibraryError, match=rf"onnxruntime {found} is too old .*pip install 'onnxruntime>=1\.18'"):
        check_version(found)


def test_the_installed_one_is_accepted() -> None:
    assert hasattr(import_onnxruntime(), "InferenceSession")


def test_a_missing_one_is_a_sentence() -> None:
    """In a Python in which it cannot be imported; `import reuse_compiler` itself must not need it."""
    program = """
import sys
sys.modules["onnxruntime"] = None
import reuse_compiler
from reuse_compiler.errors import LibraryError
try:
    reuse_compiler.session("net.onnx")
except LibraryError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "onnxruntime cannot be imported" in done.stdout and "pip install" in done.stdout


@pytest.mark.parametrize("found", [True, False])
def test_one_that_needs_cuda_to_be_imported(found: bool, tmp_path: Path) -> None:
    """As onnxruntime-gpu 1.27 does, whose loader does not look where packages have CUDA's runtime library."""
    (tmp_path / "onnxruntime.py").write_text("""
import ctypes
try:
    ctypes.CDLL("libcudart.so.777")
except OSError as error:
    raise ImportError(str(error))
__version__ = "1.27.0"
""")
    folder = tmp_path / "nvidia" / "made_up" / "lib"
    folder.mkdir(parents=True)
    if found:
        compiler = shutil.which("cc") or shutil.which("gcc") or pytest.skip("no C compiler to make a library with")
        (tmp_path / "empty.c").touch()
        options = ["-shared", "-Wl,-soname,libcudart.so.777", "-o", str(folder / "libcudart.so.777")]
        subprocess.run([compiler, *options, str(tmp_path / "empty.c")], check=True)
    program = """
from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime import cuda_libraries, import_onnxruntime
made_up = cuda_libraries.Library("libcudart.so.777", ("made_up/lib",), "nvidia-made-up==777.*")
cuda_libraries.libraries = lambda version: [made_up] if version == "777" else []
try:
    print(import_onnxruntime().__version__)
except LibraryError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    if found:
        assert done.stdout.strip() == "1.27.0"
    else:
        assert "cannot be imported (libcudart.so.777: cannot open shared object file" in done.stdout
        assert "Not found: libcudart.so.777. Try `pip install 'nvidia-made-up==777.*'`" in done.stdout
