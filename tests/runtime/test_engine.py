"""Which onnxruntime versions are accepted."""

import subprocess
import sys

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
