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
from tests.neighbours.recipes import (
    CHANNELS,
    SIZE,
    Array,
    assert_computes,
    compiled,
    images,
    network,
    node,
    outputs,
    own_nodes,
    recipe,
    run_recipe,
)  # fmt: skip
from tests.passes.models import EXACT, model_of, operators, tensor, value

REUSED = ["MaxPool", "ReuseConv", "ReuseConv", "ReuseConv"]
"""What the network has when all layers are rewritten."""


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._feeds = iter([{"x": x} for x in images()])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def test_the_rest_is_quantised(folder: Path) -> None:
    onnx.save(compiled(network(), family="exact", force=True, exclude="third"), "model.reuse.onnx")
    run_recipe("onnxruntime's quantiser", {"reader": Reader()})
    quantised = onnx.load("quantised.onnx")
    assert own_nodes(quantised) == ["ReuseConv", "ReuseConv"]
    assert operators(quantised.graph).count("QuantizeLinear") > 1
    assert_computes(quantised, network(), rtol=0.05)


def quantised_first(choice: str) -> onnx.ModelProto:
    """Returns the original, quantised by the recipe with another argument."""
    code = recipe("onnxruntime's quantiser").replace("model.reuse.onnx", "model.onnx")
    exec(code.replace("reader)", f"reader, {choice})"), {"reader": Reader()})
    return onnx.load("quantised.onnx")


def test_convolutions_with_nothing_quantised_around_them_are_compiled(folder: Path) -> None:
    quantised = quantised_first("op_types_to_quantize=['MatMul']")
    lowered = lower(quantised, EXACT).model
    assert own_nodes(lowered) == REUSED
    assert_computes(lowered, quantised, rtol=0.02)


def test_quantised_convolutions_are_compiled(folder: Path) -> None:
    quantised = quantised_first("nodes_to_exclude=['second']")
    lowered = lower(quantised, EXACT)
    assert own_nodes(lowered.model) == ["QLinearReuseConv", "QLinearReuseConv"]
    # onnxruntime quantises the weights of the second itself.
    assert [layer.decision for layer in lowered.layers] == ["reuse", "dense", "reuse"]
    assert "but not its weights" in lowered.layers[1].reason
    for x in images():
        expected = outputs(quantised, x, library=False)
        for library in (True, False):
            assert np.array_equal(outputs(lowered.model, x, library=library), expected)


@pytest.mark.parametrize("package", ["onnxruntime.transformers", "onnxconverter_common"])
def test_the_rest_is_converted_to_float16(folder: Path, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    exec(recipe("Half precision").replace("onnxruntime.transformers", package), {})
    converted = onnx.load("model.float16.onnx")
    assert own_nodes(converted) == own_nodes(onnx.load("model.reuse.onnx"))
    matrix = next(each for each in converted.graph.initializer if each.name == "fc")
    assert matrix.data_type == TensorProto.FLOAT16
    assert_computes(converted, network(), rtol=5e-3)


def test_two_compiled_models_are_merged(folder: Path) -> None:
    first, second = network(1), network(2)
    del first.graph.node[-3:], first.graph.output[:]
    first.graph.node.append(node("Resize", ["p2", "", "", "sizes"], ["r"], "larger"))
    first.graph.node.append(node("Slice", ["r", "from", "to", "axes"], ["y"], "cut"))
    first.graph.output.append(value("y", ["N", 3, SIZE, SIZE]))
    numbers = {"sizes": [1, CHANNELS, SIZE, SIZE], "from": [0], "to": [3], "axes": [1]}
    first.graph.initializer.extend(tensor(name, np.array(each, np.int64)) for name, each in numbers.items())
    onnx.save(compiled(first), "first.reuse.onnx")
    onnx.save(compiled(second), "second.reuse.onnx")
    run_recipe("Merging models")
    merged = onnx.load("merged.onnx")
    onnx.checker.check_model(merged)
    assert own_nodes(merged) == sorted(2 * own_nodes(onnx.load("model.reuse.onnx")))
    for x in images():
        expected = outputs(second, outputs(first, x, library=False), library=False)
        for library in (True, False):
            assert_close(outputs(merged, x, library=library), expected)


def test_prefixes_rename_our_operators_and_pools(folder: Path) -> None:
    model = compiled(network(), family="exact", force=True)
    with pytest.raises(onnx.checker.ValidationError, match="No Op registered for first/MaxPool"):
        onnx.checker.check_model(compose.add_prefix(model, "first/"))


def test_preprocessing_goes_before_a_compiled_model(folder: Path) -> None:
    nodes = [node("Cast", ["bytes"], ["floats"], to=1), node("Mul", ["floats", "scale"], ["image"])]
    before = model_of(
        nodes,
        [value("bytes", ["N", 3, SIZE, SIZE], TensorProto.UINT8)],
        [value("image", ["N", 3, SIZE, SIZE])],
        [tensor("scale", np.float32(1 / 255))],
    )
    model = onnx.load("model.reuse.onnx")
    merged = compose.merge_models(before, model, io_map=[("image", "x")])
    assert own_nodes(merged) == own_nodes(model)
    for x in images():
        pixels = (np.abs(x) * 50).astype(np.uint8)
        expected = outputs(network(), pixels.astype(np.float32) * np.float32(1 / 255), library=False)
        for library in (True, False):
            assert_close(outputs(merged, pixels, library=library), expected)
