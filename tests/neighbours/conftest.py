"""A folder with a network and what the compiler makes of it, where recipes run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.neighbours.recipes import compiled, network


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a test, with model.onnx and model.reuse.onnx."""
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "model.onnx")
    onnx.save(compiled(network()), "model.reuse.onnx")
    return tmp_path
