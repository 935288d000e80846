"""Models in memory made runnable, with and without external data and further outputs."""

import gc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from reuse_compiler.graph import load_model
from reuse_compiler.verification.runnable import exposed, runnable

CPU = ["CPUExecutionProvider"]
X = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)


def test_small_models_stay_in_memory(network: onnx.ModelProto, tmp_path: Path) -> None:
    with runnable(network, tmp_path) as source:
        assert isinstance(source, bytes)
        assert list(tmp_path.iterdir()) == []
        assert onnxruntime.InferenceSession(source, providers=CPU).run(None, {"x": X})[0].shape == (2, 10)


def test_external_data_gets_a_temporary_file(network: onnx.ModelProto, tmp_path: Path) -> None:
    """The session must outlive the temporary file, into which onnxruntime may have mapped its weights."""
    (tmp_path / "from").mkdir()
    (tmp_path / "folder").mkdir()
    path = tmp_path / "from" / "net.onnx"
    external = onnx.ModelProto()
    external.CopyFrom(network)
    onnx.save(external, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with runnable(load_model(path), tmp_path / "folder") as source:
        assert isinstance(source, Path) and source.is_relative_to(tmp_path / "folder")
        session = onnxruntime.InferenceSession(source, providers=CPU)
    assert list((tmp_path / "folder").iterdir()) == []
    gc.collect()
    expected = onnxruntime.InferenceSession(network.SerializeToString(), providers=CPU).run(None, {"x": X})[0]
    assert np.array_equal(session.run(None, {"x": X})[0], expected)
    assert sorted(file.name for file in path.parent.iterdir()) == ["net.onnx", "weights.bin"]


def test_tensors_are_outputs_only_meanwhile(network: onnx.ModelProto, tmp_path: Path) -> None:
    before = network.SerializeToString(deterministic=True)
    with exposed(network, ["relu1", "logits"]), runnable(network, tmp_path) as source:
        session = onnxruntime.InferenceSession(source, providers=CPU)
    assert [output.name for output in session.get_outputs()] == ["logits", "relu1"]
    assert session.run(["relu1"], {"x": X})[0].shape == (2, 8, 12, 12)
    assert network.SerializeToString(deterministic=True) == before
