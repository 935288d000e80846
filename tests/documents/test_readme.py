"""The commands and programs of README.md, one after another, on a small model and a few pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.builders import SequentialBuilder
from tests.documents.blocks import blocks, run
from tools.cpp_build import ROOT

SIZE, SAMPLES, CLASSES = 16, 12, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: model.onnx, samples.npz and labels.npy."""
    folder = tmp_path_factory.mktemp("readme")
    net = SequentialBuilder("small", SIZE, None, seed=0)
    for name, channels in (("conv1", 32), ("conv2", 64), ("conv3", 8)):
        net.conv(name, channels, kernel=3, pad=1)
    net.flatten()
    net.fully_connected("fc", CLASSES, relu=False)
    onnx.save(net.build(), folder / "model.onnx")
    rng = np.random.default_rng(0)
    squares = rng.random((SAMPLES, 3, SIZE // 4, SIZE // 4), dtype=np.float32)
    np.savez(folder / "samples.npz", x=squares.repeat(4, axis=2).repeat(4, axis=3))
    np.save(folder / "labels.npy", rng.integers(0, CLASSES, SAMPLES))
    return folder


def test_the_blocks_run_one_after_another(folder: Path) -> None:
    found = blocks(ROOT / "README.md")
    assert sum(block.language == "sh" for block in found) > 3 and sum(block.language == "python" for block in found) > 3
    for block in found:
        run(block, folder)
    assert (folder / "report" / "report.html").exists()
