"""Measuring two models against each other: numbers checked against what they must be, and models that do not run."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.compiler import layer_tensors
from reuse_compiler.errors import VerificationError
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.verification import verify
from reuse_compiler.verification.data import RandomSource, Source
from reuse_compiler.verification.inputs import model_inputs
from reuse_compiler.verification.sessions import Measuring, RunError
from reuse_compiler.verification.sources import open_data
from reuse_compiler.verification.verify import LayerTensor, Verification, Verifier, in_chunks
from tests.passes.test_keep_pixel_major import chain

CPU = ["CPUExecutionProvider"]


def source_of(model: onnx.ModelProto, shape: tuple[int, ...] = (2, 3, 12, 12)) -> Source:
    return RandomSource(model_inputs(model), {"x": shape}, seed=0)


def scaled(network: onnx.ModelProto, weight: str, factor: float) -> onnx.ModelProto:
    """A copy in which one initializer is multiplied: a "compiled" model with a known error."""
    model = onnx.ModelProto()
    model.CopyFrom(network)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), weight))
    return model


def measure(
    original: onnx.ModelProto, compiled: onnx.ModelProto, folder: Path, layers: Iterable[str] = (), threads: int = 1
) -> Verification:
    tensors = [LayerTensor(name, name.replace("conv", "relu"), None) for name in layers]
    return Verifier(original, compiled, source_of(original), Measuring(threads, folder)).run(tensors)


def unary(
    op_type: str, dtype: int = TensorProto.FLOAT, out: int = TensorProto.FLOAT, **attributes: Any
) -> onnx.ModelProto:
    """Returns a model of one node, y = op(x), x [N, 4]."""
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", dtype, ["N", 4])],
        [helper.make_tensor_value_info("y", out, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_model_equals_itself(network: onnx.ModelProto, tmp_path: Path) -> None:
    result = measure(network, network, tmp_path, ["conv1", "conv2"])
    assert (result.rel_error, result.max_abs_error) == (0.0, 0.0)
    assert result.layer_errors == {"conv1": 0.0, "conv2": 0.0}
    assert result.remaining_ratios == {}
    assert result.dense_ms > 0 and result.reuse_ms > 0
    assert result.verified_on == "random normal input x [2, 3, 12, 12], seed 0"
    assert list(tmp_path.iterdir()) == []


def test_known_errors_are_found_where_they_are(network: onnx.ModelProto, tmp_path: Path) -> None:
    """The builders' biases are zero, so that twice the weights of conv2 give twice its output."""
    result = measure(network, scaled(network, "conv2.weight", 2.0), tmp_path, ["conv1", "conv2"])
    assert result.layer_errors["conv1"] == 0.0
    assert result.layer_errors["conv2"] == pytest.approx(1.0, rel=1e-5)
    assert result.rel_error == pytest.approx(1.0, rel=1e-5)
    feed = next(iter(source_of(network)))
    logits = onnxruntime.InferenceSession(network.SerializeToString(), providers=CPU).run(None, feed)[0]
    assert result.max_abs_error == pytest.approx(np.abs(logits).max(), rel=1e-4)


@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_a_compiled_model(network: onnx.ModelProto, tmp_path: Path, lowering: str) -> None:
    options = CompileOptions(force=True, family="sign", num_hashes=5, lowering=lowering)  # type: ignore[arg-type]
    lowered = lower(network, options)
    result = Verifier(network, lowered.model, source_of(network), Measuring(2, tmp_path)).run(layer_tensors(lowered))
    suffix = "" if lowering == "fused" else "/Cluster"
    assert set(result.layer_errors) == {"conv1", "conv2"}
    assert set(result.remaining_ratios) == {f"conv1{suffix}", f"conv2{suffix}"}
    assert 0.0 < result.layer_errors["conv1"] < 1.0
    # 2 images of 12x12 pixels in at most 2^5 clusters
    assert 0.0 < result.remaining_ratios[f"conv1{suffix}"] <= 2**5 / (2 * 12 * 12)
    assert result.rel_error is not None and result.rel_error > 0.01


def test_external_data_is_verified_too(tmp_path: Path) -> None:
    from reuse_compiler.graph import load_model

    path = tmp_path / "net.onnx"
    onnx.save(chain(), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    model = load_model(path)
    lowered = lower(model, CompileOptions(force=True, family="exact"))
    result = Verifier(model, lowered.model, source_of(model, (2, 4, 12, 12)), Measuring(1, tmp_path)).run(
        layer_tensors(lowered)
    )
    assert result.rel_error is not None and result.rel_error < 1e-5
    # Or else the next line would not compare tensors of two orders.
    assert lowered.rewritten.pixel_major == {"q": "q/nhwc", "a": "a/nhwc"}
    assert set(result.layer_errors) == {"conv1", "conv2"} and max(result.layer_errors.values()) < 1e-5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.bin", "net.onnx"]


def test_layers_are_measured_in_chunks_of_bounded_size(
    network: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [LayerTensor(str(size), str(size), size) for size in (3, 4, 5, 20, 1, None)]
    monkeypatch.setattr(verify, "LAYER_BYTES", 10)
    monkeypatch.setattr(verify, "UNKNOWN_BYTES", 9)
    assert [[item.size for item in chunk] for chunk in in_chunks(layers)] == [[3, 4], [5], [20], [1, None]]
    assert list(in_chunks([])) == []
    result = measure(network, scaled(network, "conv1.weight", 1.5), tmp_path, ["conv1", "conv2"])
    assert result.layer_errors == pytest.approx({"conv1": 0.5, "conv2": 0.5}, rel=1e-5)


def test_every_feed_counts(network: onnx.ModelProto, tmp_path: Path) -> None:
    """The error comes from the last of seven feeds alone."""
    x = np.zeros((7, 3, 12, 12), np.float32)
    x[6] = 1
    np.save(tmp_path / "x.npy", x)
    source = open_data(tmp_path / "x.npy", model_inputs(network), {})
    result = Verifier(network, scaled(network, "conv1.weight", 2.0), source, Measuring(1, tmp_path)).run([])
    assert len(source) == 7 and result.rel_error == pytest.approx(1.0, rel=1e-5)


def test_progress_reaches_its_end(network: onnx.ModelProto, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    Verifier(
        network,
        network,
        source_of(network),
        Measuring(1, tmp_path, lambda what, done, total: calls.append((what, done, total))),
    ).run([LayerTensor("conv1", "relu1", None), LayerTensor("conv2", "relu2", None)])
    ends = {what: (done, total) for what, done, total in calls}
    assert ends == {"comparing both models": (5, 5), "measuring conv1 to conv2": (1, 1)}
    assert all(0 <= done <= total for _, done, total in calls)


def test_integers_are_counted_and_not_averaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = unary("ArgMax", out=TensorProto.INT64, axis=1, keepdims=0)
    last = unary("ArgMin", out=TensorProto.INT64, axis=1, keepdims=0)
    with caplog.at_level(logging.WARNING):
        result = Verifier(first, last, source_of(first, (3, 4)), Measuring(1, tmp_path)).run([])
    assert result.rel_error is None and result.max_abs_error is None
    assert "3 of 3 values of the output 'y' differ" in caplog.text


def test_shapes_that_depend_on_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nonzero = unary("NonZero", out=TensorProto.INT64)
    other = unary("NonZero", out=TensorProto.INT64)
    other.graph.node[0].input[0] = "z"
    other.graph.node.insert(0, helper.make_node("Relu", ["x"], ["z"]))
    with caplog.at_level(logging.WARNING):
        Verifier(nonzero, other, source_of(nonzero, (3, 4)), Measuring(1, tmp_path)).run([])
    assert "the output 'y' has shape [2, 12] in the original and" in caplog.text
    assert caplog.text.count("was not compared") == 1


def test_an_output_that_is_no_tensor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = unary("SequenceConstruct")
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    with caplog.at_level(logging.WARNING):
        result = Verifier(model, model, source_of(model, (3, 4)), Measuring(1, tmp_path)).run([])
    assert "the output 'y' is a seq(tensor(float)) and was not compared" in caplog.text
    assert result.rel_error is None and result.dense_ms > 0


def test_numbers_that_become_undefined_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"output 'y' of the compiled model has \d+ values that are not finite"):
        Verifier(unary("Abs"), unary("Sqrt"), source_of(unary("Abs"), (3, 4)), Measuring(1, tmp_path)).run([])


def test_undefined_in_the_original_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = Verifier(unary("Sqrt"), unary("Sqrt"), source_of(unary("Sqrt"), (3, 4)), Measuring(1, tmp_path)).run(
            []
        )
    assert "values of the output 'y' are NaN or Inf in the original too" in caplog.text
    assert result.rel_error == 0.0


def test_models_that_do_not_load_or_run(
    network: onnx.ModelProto, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unknown = unary("Abs")
    unknown.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(RunError, match=r"onnxruntime cannot load the original model: .*NoSuchOperator"):
        Verifier(unknown, unary("Abs"), source_of(unknown, (3, 4)), Measuring(1, tmp_path)).run([])
    with pytest.raises(RunError, match=r"onnxruntime cannot load the compiled model: .*NoSuchOperator"):
        Verifier(unary("Abs"), unknown, source_of(unknown, (3, 4)), Measuring(1, tmp_path)).run([])
    with pytest.raises(RunError, match=r"the original model does not run: .*[Ii]nvalid dimensions"):
        Verifier(network, network, source_of(network, (2, 3, 13, 13)), Measuring(1, tmp_path)).run([])
    captured = capfd.readouterr()
    assert captured.out == captured.err == "", "onnxruntime must not write beside our own sentence"
