"""What is exported, compiled and run in onnxruntime computes what the trained model computes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor, nn  # noqa: E402

import reuse_compiler  # noqa: E402
from reuse_compiler.compiler import compile_file  # noqa: E402
from reuse_compiler.errors import ModelError, OutputError  # noqa: E402
from reuse_compiler.options import CompileOptions  # noqa: E402
from reuse_compiler.reuse.config import ReuseConfig  # noqa: E402
from reuse_compiler.reuse.fitted import Fitted  # noqa: E402
from reuse_compiler.training import convert, export_onnx, make_strategy  # noqa: E402
from reuse_compiler.training.conversion import reuse_layers  # noqa: E402
from tests.comparison import relative_error  # noqa: E402
from tests.training.networks import small_network, smooth_images  # noqa: E402


def train(model: nn.Module, x: Tensor, steps: int = 4) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), torch.arange(len(x)) % 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    "family, soft, table",
    [
        ("sign", None, "float"),
        ("sign", 1.0, "float"),
        ("learned", None, "float"),
        ("learned", None, "int8"),
    ],
)
def test_compiled_inference_computes_what_training_computed(
    family: Any, soft: float | None, table: Any, tmp_path: Path
) -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    conversion = convert(model, x, family=family, table=table, soft_hash=soft)
    strategy = make_strategy(1 if soft else 2, model, conversion, samples=[x])
    train(model, x)
    if soft is None:
        strategy.load_state_dict(strategy.state_dict() | {"stage": 2})  # other settings than at the beginning
    model.eval()
    config = export_onnx(model, tmp_path / "net.onnx", x)
    layers = ReuseConfig.load(config).layers
    assert layers == {name: layer.settings for name, layer in reuse_layers(model).items()}
    assert {own.table for own in layers.values()} == {table}
    compile_file(tmp_path / "net.onnx", tmp_path / "out.onnx", CompileOptions(config=config), verify=False)
    session = reuse_compiler.session(tmp_path / "out.onnx")
    found = session.run(None, {"x": x.numpy()})[0]
    with torch.no_grad():
        wanted = model(x).numpy()
    assert relative_error(found, wanted) < 1e-5
    assert {"0", "3"} <= {node.node for node in reuse_compiler.statistics(session)}
    for layer in reuse_layers(model).values():
        layer.reuse = False
    with torch.no_grad():
        assert relative_error(model(x).numpy(), wanted) > 1e-3  # reuse does make a difference here


def test_the_plain_model_has_no_reuse_and_a_free_batch(tmp_path: Path) -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    layers = convert(model, x).layers
    layers["0"].reuse = False
    config = export_onnx(model.eval(), tmp_path / "net.onnx", x, input_names=["image"], output_names=["scores"])
    assert list(ReuseConfig.load(config).layers) == ["3"]
    exported = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(exported, full_check=True)
    assert [node.name for node in exported.graph.node if node.op_type == "Conv"] == ["0", "3"]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(["scores"], {"image": x[:3].numpy()})[0]
    layers["3"].reuse = False
    with torch.no_grad():
        assert relative_error(found, model(x[:3]).numpy()) < 1e-5
    layers["3"].reuse = True
    assert isinstance(model[3], type(layers["3"]))  # the model is what it was


def test_nothing_is_replaced_unless_asked_for(tmp_path: Path) -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    convert(model, x)
    export_onnx(model, tmp_path / "net.onnx", x)
    before = (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        export_onnx(small_network(seed=1), tmp_path / "net.onnx", x)
    assert (tmp_path / "net.onnx").read_bytes() == before
    export_onnx(small_network(seed=1), tmp_path / "net.onnx", x, overwrite=True)
    assert (tmp_path / "net.onnx").read_bytes() != before


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(self.conv(x), torch.ones(2, 3, 1, 1))


@pytest.mark.parametrize("kind, message", [(Twice, "used more than once"), (Functional, "2 Conv nodes")])
def test_convolutions_that_cannot_be_told_apart_are_refused(
    kind: type[nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        export_onnx(kind(), tmp_path / "net.onnx", smooth_images(2, 3, 8))
    assert not (tmp_path / "net.onnx").exists()


def test_exported_outputs_are_float32(tmp_path: Path) -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    export_onnx(model, tmp_path / "net.onnx", x)
    values = onnx.load(tmp_path / "net.onnx").graph.output
    assert [value.type.tensor_type.elem_type for value in values] == [
        onnx.helper.np_dtype_to_tensor_dtype(np.dtype("float32"))
    ]


def test_an_export_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full when the last file comes, the first ones are as they were."""
    model, x = small_network(), smooth_images(2, 3, 12)
    convert(model, x, family="sign")
    export_onnx(model, tmp_path / "net.onnx", x)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with torch.no_grad():
        next(model.parameters()).add_(1.0)  # the model's file would be another one

    def full_disk(fitted: Fitted) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Fitted, "to_bytes", full_disk)
    with pytest.raises(OutputError, match="cannot write"):
        export_onnx(model, tmp_path / "net.onnx", x, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
