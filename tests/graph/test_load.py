"""Bad files are refused with a sentence; good ones keep their external data outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from reuse_compiler.errors import ModelError
from reuse_compiler.graph import load_model
from reuse_compiler.graph.tensors import external_data, is_external, to_array
from tests.graph.external import save_with_data
from tests.passes.models import conv_model


def test_a_model_is_read_as_it_is(tmp_path: Path) -> None:
    model = conv_model()
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert load_model(tmp_path / "m.onnx") == model
    assert load_model(str(tmp_path / "m.onnx")) == model


def bytes_of_model() -> bytes:
    return bytes(conv_model().SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(range(200)),
        b"not a model at all\n" * 20,
        b'{"ir_version": 8}',
        bytes_of_model()[:-100],
        bytes_of_model()[:20],
        bytes_of_model()[:5],
    ],
    ids=["empty", "png", "text", "json", "cut end", "cut graph", "cut head"],
)
def test_non_onnx_and_truncated_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx is not an ONNX model, or a truncated one"):
        load_model(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content, path = bytes_of_model(), tmp_path / "m.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            load_model(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the model .*No such file"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"cannot read the model .*directory"):
        load_model(tmp_path)


def test_unsound_graphs_are_refused(tmp_path: Path) -> None:
    model = conv_model()
    model.graph.node[0].input[0] = "nowhere"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="reads 'nowhere', which nothing computes"):
        load_model(tmp_path / "m.onnx")


def test_external_data_stays_outside_with_absolute_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = conv_model()
    path = save_with_data(model, tmp_path / "in" / "m.onnx", "sub/weights.bin")
    monkeypatch.chdir(tmp_path)
    loaded = load_model(Path("in/m.onnx"))
    monkeypatch.chdir("/")
    assert all(is_external(t) for t in loaded.graph.initializer)
    assert external_data(loaded.graph.initializer[0]).file == path.parent.resolve() / "sub" / "weights.bin"
    for stored, original in zip(loaded.graph.initializer, model.graph.initializer, strict=True):
        np.testing.assert_array_equal(to_array(stored), to_array(original))


def test_missing_external_data(tmp_path: Path) -> None:
    path = save_with_data(conv_model(), tmp_path / "m.onnx", "weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"'weights\.bin' of tensor 'w' is missing; put it beside the model"):
        load_model(path)


def test_truncated_external_data(tmp_path: Path) -> None:
    path = save_with_data(conv_model(), tmp_path / "m.onnx", "weights.bin")
    (tmp_path / "weights.bin").write_bytes(b"\0" * 100)
    with pytest.raises(
        ModelError, match=r"'weights\.bin' is truncated: tensor 'w' ends at byte 864, the file at byte 100"
    ):
        load_model(path)


@pytest.mark.parametrize("escape", ["../weights.bin", "ABSOLUTE"])
def test_external_data_outside_the_folder(tmp_path: Path, escape: str) -> None:
    path = save_with_data(conv_model(), tmp_path / "in" / "m.onnx", "weights.bin")
    (tmp_path / "in" / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    location = str(tmp_path / "weights.bin") if escape == "ABSOLUTE" else escape
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="lies outside the model's folder"):
        load_model(path)
