"""Calibration of quantised models: static clusters of bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.candidates import candidates
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.compiler import compile_file
from reuse_compiler.options import CompileOptions
from reuse_compiler.verification.quantised import quantise
from tests.calibration.test_calibrate import BATCH, LOOSE, SIZE, Reader, inputs, network
from tests.comparison import relative_error
from tests.passes.models import run


def quantised(form: str = "QDQ") -> onnx.ModelProto:
    x = inputs()
    return quantise(network(), [{"x": x[start : start + BATCH]} for start in range(0, len(x), BATCH)], form, "QUInt8")


def test_a_quantised_layer_is_fitted_to_what_its_bytes_stand_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path / "cache"))
    model, path = quantised(), tmp_path / "net.int8.onnx"
    onnx.save(model, path)
    options = CalibrationOptions(**(LOOSE | {"scope": "static", "exclude": "^wide$"}))
    report = calibrate_file(path, Reader(inputs()), tmp_path / "net.json", options)
    (line,) = [line for line in report.layers if line.name == "deep"]
    assert line.chosen is not None and (line.chosen.settings.scope, line.chosen.settings.table) == ("static", "int8")
    assert line.error_as_is is not None and line.error_reconstructed is not None
    assert line.error_reconstructed < line.error_as_is < 1.0
    compiled = tmp_path / "net.reuse.onnx"
    shapes: dict[str, tuple[int, ...]] = {"x": (BATCH, 8, SIZE, SIZE)}
    lines = compile_file(path, compiled, CompileOptions(config=tmp_path / "net.json", shapes=shapes)).layers
    assert [(line.name, line.decision) for line in lines] == [("wide", "dense"), ("deep", "reuse")]
    (node,) = [each for each in onnx.load(compiled).graph.node if each.op_type == "QLinearReuseConv"]
    assert len(node.input) == 15
    x = inputs()[:BATCH]
    assert relative_error(run(onnx.load(compiled), {"x": x})[0], run(model, {"x": x})[0]) < 0.8


def test_what_is_tried_of_bytes() -> None:
    options = CalibrationOptions(shapes={"x": (BATCH, 8, SIZE, SIZE)})
    (_, layer) = examine(quantised(), options).layers
    found = candidates(layer.spec, options, EFFORTS["default"])
    assert {(each.scope, each.table, each.layout) for each in found} == {("static", "int8", "channel")}
    for reason in examine(quantised("QOperator"), options).dense.values():
        assert "covers a Conv between DequantizeLinear and QuantizeLinear" in reason


def test_results_that_bytes_can_stand_for() -> None:
    work = examine(quantised(), CalibrationOptions(shapes={"x": (BATCH, 8, SIZE, SIZE)}))
    layer = work.layers[-1]
    every = layer.output_values(np.arange(256).astype(np.uint8))
    np.testing.assert_allclose(layer.representable(every), every, rtol=1e-6, atol=1e-6)
    assert layer.representable(np.array([1e9, -1e9], np.float32)).tolist() == pytest.approx([every[-1], every[0]])
