"""Model files to compile, and the command run in this process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest
from typer.testing import Result

from models.builders import SequentialBuilder
from reuse_compiler.cli.compile import app
from tests.running import run_command

SIZE = 12
Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the width of tables independent of the terminal in which the tests run."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    """Three convolutions and a classifier that insists on 12x12 pixels; input `x` [N, 3, 12, 12]."""
    net = SequentialBuilder("small", SIZE, None, seed=0)
    net.conv("conv1", 64, kernel=3, pad=1)
    net.conv("conv2", 128, kernel=3, pad=1)  # large enough to be worth rewriting by the cost model
    net.conv("conv3", 8, kernel=1)
    net.flatten()
    net.fully_connected("fc", 10, relu=False)
    return net.build()


@pytest.fixture
def model(network: onnx.ModelProto, tmp_path: Path) -> Path:
    """The network as the only file in a folder."""
    path = tmp_path / "net.onnx"
    onnx.save(network, path)
    return path


@pytest.fixture
def run() -> Run:
    """Runs `reuse-compile` with the given arguments."""
    return partial(run_command, app)
