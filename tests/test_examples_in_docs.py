"""The Python examples of pages on the API run, one after the other as they stand there."""

import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import onnxruntime
import pytest

import reuse_compiler
from models.builders import SequentialBuilder
from tools.cpp_build import ROOT

PLUGINS = (1, 24)
"""The onnxruntime that takes operators from the library of an execution provider."""


def examples(page: str, section: str = "") -> str:
    """Returns the blocks of Python of a page, or of what follows the words `section` in it, as one program."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = text[text.index(section) :].split("```python\n")[1:]
    return "\n".join(textwrap.dedent(part.partition("```")[0]) for part in parts)


def run(program: str, folder: Path) -> str:
    """Runs a program in a Python and a folder of its own; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net = SequentialBuilder("net", 32, None, seed=0)
    net.conv("conv1", 16, kernel=3, pad=1)
    net.conv("conv2", 16, kernel=3, pad=1)
    onnx.save(net.build(), tmp_path / "net.onnx")
    return tmp_path


def test_api(folder: Path) -> None:
    printed = run(examples("api.md"), folder)
    assert "conv1 reuse" in printed and "num_hashes: " in printed and reuse_compiler.library_path() in printed
    assert sorted(file.name for file in folder.iterdir()) == ["net.onnx", "net.reuse.onnx", "other.onnx"]


def test_registration(folder: Path) -> None:
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < PLUGINS:
        pytest.skip("this onnxruntime takes no operators from the library of an execution provider")
    reuse_compiler.compile(folder / "net.onnx", family="exact", force=True, fallback=False, verify=False).save(
        folder / "net.reuse.onnx"
    )
    printed = run(examples("operators.md", "**Registration.**") + "\nprint(session.get_providers())", folder)
    assert "ReuseExecutionProvider" in printed
