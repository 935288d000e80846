"""A folder with a network and what the compiler makes of it, where recipes run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from reuse_compiler.pipeline import lower
from tests.neighbours.recipes import network
from tests.passes.models import EXACT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a test, with model.onnx and model.reuse.onnx."""
    monkeypatch.chdir(tmp_path)
    original = network()
    onnx.save(original, "model.onnx")
    onnx.save(lower(original, EXACT).model, "model.reuse.onnx")
    return tmp_path
