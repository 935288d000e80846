"""The package without PyTorch: names say what is missing, and the strategies' logic works."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import reuse_compiler.training as training
from reuse_compiler.errors import LibraryError
try:
    training.convert
except LibraryError as error:
    print(error)
assert training.FixedStrategy().step(1.0, lambda: 0.5) is None
try:
    training.no_such_name
except AttributeError as error:
    print(error)
"""


def test_the_extra_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'reuse-compiler[training]'" in done.stdout
    assert "has no attribute 'no_such_name'" in done.stdout
