"""Calibration of quantised models: static clusters of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization import quantize_dynamic

from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.candidates import candidates
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.linear import with_linear_outputs
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.compiler import compile_file
from reuse_compiler.errors import ConfigError, ModelError
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.options import CompileOptions
from reuse_compiler.reports.calibration_table import totals
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.quantised import quantise
from reuse_compiler.verification.sessions import open_session, run_session
from tests.calibration.networks import conv, relu, weight
from tests.calibration.test_calibrate import BATCH, LOOSE, SIZE, Reader, inputs, network
from tests.comparison import relative_error
from tests.passes.models import model_of, random_array, run, tensor, value

FORMS = ("QDQ", "QOperator")
SHAPES: dict[str, tuple[int, ...]] = {"x": (BATCH, 8, SIZE, SIZE)}


def feeds() -> list[Feed]:
    x = inputs()
    return [{"x": x[start : start + BATCH]} for start in range(0, len(x), BATCH)]


def quantised(form: str = "QDQ", model: onnx.ModelProto | None = None) -> onnx.ModelProto:
    return quantise(network() if model is None else model, feeds(), form, "QUInt8")


def residual() -> onnx.ModelProto:
    """X -> `wide` + Relu -> `deep` + Relu, added to what it reads -> `last` -> y."""
    nodes = [
        conv("x", "w1", "c1", "wide", pads=[1, 1, 1, 1]),
        relu("c1", "r1"),
        conv("r1", "w2", "c2", "deep", pads=[1, 1, 1, 1]),
        relu("c2", "r2"),
        helper.make_node("Add", ["r1", "r2"], ["s"], name="add"),
        conv("s", "w3", "y", "last", pads=[1, 1, 1, 1]),
    ]
    constants = [weight("w1", 64, 8, 3, 3), weight("w2", 64, 64, 3, 3), weight("w3", 64, 64, 3, 3)]
    return model_of(nodes, [value("x", ["N", 8, SIZE, SIZE])], [value("y", ["N", 64, SIZE, SIZE])], constants)


def named(name: str) -> str:
    """Returns a layer's name before it was quantised."""
    return name.removesuffix("_quant")


def computed(model: onnx.ModelProto, tensors: list[str], feed: Feed) -> list[NDArray[Any]]:
    return run_session(open_session(cut_model(model, [], tensors), 1, "it"), tensors, feed, "it")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("form", FORMS)
def test_a_quantised_layer_is_fitted_to_what_its_bytes_stand_for(tmp_path: Path, form: str) -> None:
    model, path = quantised(form), tmp_path / "net.int8.onnx"
    onnx.save(model, path)
    options = CalibrationOptions(**(LOOSE | {"scope": "static", "exclude": "^wide"}))
    report = calibrate_file(path, Reader(inputs()), tmp_path / "net.json", options)
    (line,) = [line for line in report.layers if named(line.name) == "deep"]
    assert line.chosen is not None and (line.chosen.settings.scope, line.chosen.settings.table) == ("static", "int8")
    assert line.error_as_is is not None and line.error_reconstructed is not None
    assert line.error_reconstructed < line.error_as_is < 1.0
    compiled = tmp_path / "net.reuse.onnx"
    lines = compile_file(path, compiled, CompileOptions(config=tmp_path / "net.json", shapes=SHAPES)).layers
    assert [(named(line.name), line.decision) for line in lines] == [("wide", "dense"), ("deep", "reuse")]
    (node,) = [each for each in onnx.load(compiled).graph.node if each.op_type == "QLinearReuseConv"]
    assert len(node.input) == 15
    x = inputs()[:BATCH]
    assert relative_error(run(onnx.load(compiled), {"x": x})[0], run(model, {"x": x})[0]) < 0.8


def test_the_budget_is_kept_beside_the_reference(tmp_path: Path) -> None:
    """What quantising has lost counts, too."""
    path, reference = tmp_path / "net.int8.onnx", tmp_path / "net.onnx"
    onnx.save(quantised(), path)
    onnx.save(network(), reference)
    options = CalibrationOptions(**(LOOSE | {"scope": "static", "exclude": "^wide"}))

    def calibrate(number: int, **options_too: Any) -> CalibrationReport:
        own, beside = options.model_copy(update=options_too), reference if number else None
        return calibrate_file(path, Reader(inputs()), tmp_path / f"net{number}.json", own, reference=beside)

    alone, report = calibrate(0).check, calibrate(1)
    assert alone is not None and alone.reference is None and alone.original == pytest.approx(1.0)
    beside = report.check
    assert report.reference == str(reference) and beside is not None and beside.reference is not None
    assert beside.reference == pytest.approx(1.0) and 0.9 < beside.original < 1.0 - 1e-5
    assert beside.drop == pytest.approx(beside.reference - beside.value)
    assert "1 of the reference, " in "\n".join(totals(report))
    with pytest.raises(ConfigError, match=r"the model as it is has cosine 0\.9.* beside the reference.*is to be kept"):
        calibrate(2, max_drop=1e-7)


def test_a_reference_has_the_same_inputs_and_outputs(tmp_path: Path) -> None:
    path, reference, other = tmp_path / "net.int8.onnx", tmp_path / "net.onnx", network()
    onnx.save(quantised(), path)
    other.graph.output[0].name = other.graph.node[-1].output[0] = "z"
    onnx.save(other, reference)
    with pytest.raises(ModelError, match=r"has the outputs \['z'\], and the model \['y'\]"):
        calibrate_file(path, Reader(inputs()), tmp_path / "net.json", reference=reference)
    with pytest.raises(ConfigError, match="which is read"):
        onnx.save(network(), reference)
        calibrate_file(path, Reader(inputs()), reference, reference=reference, overwrite=True)


def test_what_is_tried_of_bytes() -> None:
    options = CalibrationOptions(shapes=SHAPES)
    for form in FORMS:
        (_, layer) = examine(quantised(form), options).layers
        found = candidates(layer.spec, options, EFFORTS["default"])
        assert {(each.scope, each.table, each.layout) for each in found} == {("static", "int8", "channel")}


def test_a_result_of_floats_is_left_to_lossless_reuse(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "net.onnx")
    quantize_dynamic(tmp_path / "net.onnx", tmp_path / "net.int8.onnx", op_types_to_quantize=["Conv"])
    work = examine(onnx.load(tmp_path / "net.int8.onnx"), CalibrationOptions(shapes=SHAPES))
    assert not work.layers and len(work.dense) == 2
    for reason in work.dense.values():
        assert "it is quantised and gives floats" in reason and "--verify-data" in reason


def test_both_forms_are_fitted_to_the_same_numbers() -> None:
    """Those that the limits of bytes cut off are among them."""
    targets = []
    for form in FORMS:
        work = examine(quantised(form), CalibrationOptions(shapes=SHAPES))
        model, tensors = with_linear_outputs(work.model, work.layers)
        targets.append(computed(model, list(tensors.values()), feeds()[0]))
        assert [array.dtype for array in targets[-1]] == [np.float32] * 2
    for of_conv, of_bytes in zip(*targets, strict=True):
        np.testing.assert_allclose(of_bytes, of_conv, rtol=1e-4, atol=1e-4)
    assert targets[1][0].min() < -0.1, "the Relu of the first layer is no part of it"


def test_a_layer_of_one_dimension_has_a_linear_result() -> None:
    nodes = [conv("x", "w", "c", "conv", "b", pads=[1, 1], strides=[2]), relu("c", "y")]
    constants = [weight("w", 6, 4, 3), tensor("b", random_array(6))]
    single = model_of(nodes, [value("x", ["N", 4, "T"])], [value("y", ["N", 6, "U"])], constants)
    x = random_array(2, 4, 9)
    model = quantise(single, [{"x": x}], "QOperator", "QUInt8")
    (layer,) = examine(model, CalibrationOptions(shapes={"x": x.shape})).layers
    whole, tensors = with_linear_outputs(model, [layer])
    (y,), (expected,) = computed(whole, list(tensors.values()), {"x": x}), computed(single, ["c"], {"x": x})
    assert y.min() < -0.1 and relative_error(y, expected) < 0.02


def test_tensors_that_shape_inference_cannot_follow(tmp_path: Path) -> None:
    """What onnxruntime's QLinearAdd computes is bytes of the last layer."""
    model, path = quantised("QOperator", residual()), tmp_path / "net.int8.onnx"
    assert "QLinearAdd" in {node.op_type for node in model.graph.node}
    onnx.save(model, path)
    options = CalibrationOptions(**(LOOSE | {"scope": "static", "exclude": "^wide"}))
    report = calibrate_file(path, Reader(inputs()), tmp_path / "net.json", options)
    (line,) = [line for line in report.layers if named(line.name) == "last"]
    assert line.chosen is not None and line.error_reconstructed is not None and line.error_reconstructed < 1.0
    np.save(tmp_path / "x.npy", inputs()[:BATCH])
    found = compile_file(
        path, tmp_path / "out.onnx", CompileOptions(config=tmp_path / "net.json"), verify_data=tmp_path / "x.npy"
    )
    assert "last" in {named(line.name) for line in found.layers if line.decision == "reuse"}
    assert found.rel_error is not None and 0.0 < found.rel_error < 0.8


def test_results_that_bytes_can_stand_for() -> None:
    work = examine(quantised(), CalibrationOptions(shapes=SHAPES))
    layer = work.layers[-1]
    every = layer.output_values(np.arange(256).astype(np.uint8))
    np.testing.assert_allclose(layer.representable(every), every, rtol=1e-6, atol=1e-6)
    assert layer.representable(np.array([1e9, -1e9], np.float32)).tolist() == pytest.approx([every[-1], every[0]])
