"""What both of PyTorch's exporters write is compiled, by the recipe of docs/neighbours.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.comparison import assert_close
from tests.neighbours.recipes import outputs, own_nodes, recipe
from tests.passes.models import random_array

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters' own


def network() -> Any:
    """Every activation that we fuse, batch normalizations with numbers of their own, and two ways of padding."""
    torch.manual_seed(0)
    layers = torch.nn
    made = layers.Sequential(
        layers.Conv2d(3, 8, 3, padding=1), layers.BatchNorm2d(8), layers.ReLU(), layers.MaxPool2d(2),
        layers.Conv2d(8, 8, 3, padding="same", bias=False), layers.BatchNorm2d(8), layers.LeakyReLU(0.1),
        layers.Conv2d(8, 8, 3, stride=2), layers.ReLU6(),
        layers.AdaptiveAvgPool2d(1), layers.Flatten(), layers.Linear(8, 10),
    )  # fmt: skip
    for layer in made:
        if isinstance(layer, layers.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return made


def test_the_dynamo_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    export_and_compile("dynamo=True, dynamic_shapes=({0: 'N', 2: 'H', 3: 'W'},)", tmp_path, monkeypatch)
    assert (tmp_path / "model.onnx.data").exists()


@pytest.mark.parametrize(
    "options", ["", ", dynamic_axes={'x': {0: 'N', 2: 'H', 3: 'W'}}", ", do_constant_folding=False"]
)
def test_the_older_exporter(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_and_compile(f"dynamo=False{options}", tmp_path, monkeypatch)


def export_and_compile(how: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the recipe with these arguments, and with options that have layers of this size rewritten."""
    monkeypatch.chdir(folder)
    code = recipe("PyTorch").replace("dynamo=True", how)
    code = code.replace('compile("model.onnx")', 'compile("model.onnx", family="exact", force=True)')
    exec(code, {"network": network(), "x": torch.ones(2, 3, 16, 16)})
    compiled, x = onnx.load("model.reuse.onnx"), random_array(2, 3, 16, 16)
    assert own_nodes(compiled) == ["MaxPool", "ReuseConv", "ReuseConv", "ReuseConv"]
    with torch.no_grad():
        expected = network().eval()(torch.from_numpy(x)).numpy()
    for library in (True, False):
        assert_close(outputs(compiled, x, library=library), expected, what=f"{how}, library: {library}")
