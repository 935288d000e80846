"""Recipes of docs/neighbours.md that change a compiled model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, compose
from onnxruntime.quantization import CalibrationDataReader

from reuse_compiler.pipeline import lower
from tests.comparison import assert_close
from tests.neighbours.recipes import Array, images, network, node, outputs, own_nodes, recipe, run_recipe
from tests.passes.models import EXACT, model_of, operators, tensor, value


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._feeds = iter([{"x": images()}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def assert_computes(model: onnx.ModelProto, x: Array, expected: Array, rtol: float = 1e-4) -> None:
    """Holds with the operator library, and without."""
    for library in (True, False):
        assert_close(outputs(model, x, library=library), expected, rtol=rtol, what=f"library: {library}")


def test_the_rest_is_quantised(folder: Path) -> None:
    run_recipe("onnxruntime's quantiser", {"reader": Reader()})
    quantised = onnx.load("quantised.onnx")
    assert own_nodes(quantised) == own_nodes(onnx.load("model.reuse.onnx"))
    assert operators(quantised.graph).count("QuantizeLinear") > 1
    x = images()
    assert_computes(quantised, x, outputs(onnx.load("model.onnx"), x, library=False), rtol=0.2)


def quantised_first(choice: str) -> onnx.ModelProto:
    """Returns the original, quantised by the recipe with another argument."""
    code = recipe("onnxruntime's quantiser").replace("model.reuse.onnx", "model.onnx")
    exec(code.replace("reader)", f"reader, {choice})"), {"reader": Reader()})
    return onnx.load("quantised.onnx")


def test_convolutions_with_nothing_quantised_around_them_are_compiled(folder: Path) -> None:
    quantised, x = quantised_first("op_types_to_quantize=['MatMul']"), images()
    compiled = lower(quantised, EXACT).model
    assert own_nodes(compiled) == ["ReuseConv", "MaxPool", "ReuseConv"]
    assert_computes(compiled, x, outputs(quantised, x, library=False), rtol=0.05)


def test_convolutions_that_onnxruntime_quantises_itself_stay(folder: Path) -> None:
    quantised = quantised_first("nodes_to_exclude=['second']")
    lowered = lower(quantised, EXACT)
    assert lowered.model is quantised
    assert any("computes its input, so onnxruntime runs it in integers" in layer.reason for layer in lowered.layers)


@pytest.mark.parametrize("package", ["onnxruntime.transformers", "onnxconverter_common"])
def test_the_rest_is_converted_to_float16(folder: Path, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    code = recipe("Half precision").replace("onnxruntime.transformers", package)
    exec(code, {})
    converted, x = onnx.load("model.float16.onnx"), images()
    assert own_nodes(converted) == own_nodes(onnx.load("model.reuse.onnx"))
    half = [each.name for each in converted.graph.initializer if each.data_type == TensorProto.FLOAT16]
    assert half == ["fc"]
    assert_computes(converted, x, outputs(onnx.load("model.onnx"), x, library=False), rtol=5e-3)


def test_two_compiled_models_are_merged(folder: Path) -> None:
    first = network(1)
    del first.graph.node[-3:], first.graph.output[:]
    first.graph.node.append(node("Resize", ["p1", "", "", "sizes"], ["r"], "larger"))
    first.graph.node.append(node("Slice", ["r", "from", "to", "axes"], ["y"], "cut"))
    first.graph.output.append(value("y", ["N", 3, 16, 16]))
    first.graph.initializer.extend(
        tensor(name, np.array(numbers, np.int64))
        for name, numbers in (("sizes", [2, 8, 16, 16]), ("from", [0]), ("to", [3]), ("axes", [1]))
    )
    second, x = network(2, slope=0.1), images()
    expected = outputs(second, outputs(first, x, library=False), library=False)
    for model, name in ((first, "first.reuse.onnx"), (second, "second.reuse.onnx")):
        onnx.save(lower(model, EXACT).model, name)
    run_recipe("Merging models")
    merged = onnx.load("merged.onnx")
    onnx.checker.check_model(merged)
    assert len(own_nodes(merged)) == 6
    assert_computes(merged, x, expected)


def test_merged_as_they_are_our_operators_are_renamed(folder: Path) -> None:
    with pytest.raises(onnx.checker.ValidationError, match="No Op registered for first/MaxPool"):
        onnx.checker.check_model(compose.add_prefix(onnx.load("model.reuse.onnx"), "first/"))


def test_preprocessing_goes_before_a_compiled_model(folder: Path) -> None:
    nodes = [node("Cast", ["bytes"], ["floats"], to=1), node("Mul", ["floats", "scale"], ["image"])]
    before = model_of(
        nodes,
        [value("bytes", ["N", 3, 16, 16], TensorProto.UINT8)],
        [value("image", ["N", 3, 16, 16])],
        [tensor("scale", np.float32(1 / 255))],
    )
    merged = compose.merge_models(before, onnx.load("model.reuse.onnx"), io_map=[("image", "x")])
    pixels = (np.abs(images()) * 50).astype(np.uint8)
    assert len(own_nodes(merged)) == 3
    expected = outputs(onnx.load("model.onnx"), pixels.astype(np.float32) * np.float32(1 / 255), library=False)
    assert_computes(merged, pixels, expected)
