"""The pixels that decide about another are exactly those that change it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.graph.shapes import tensor_shapes
from reuse_compiler.regions.segments import Flow
from reuse_compiler.regions.windows import Window, windows_of
from tests.passes.models import model_of, run, tensor, value
from tests.regions.models import Net, chain, skips

SIZE = 33


def window(nodes: list[onnx.NodeProto], result: str, *constants: onnx.TensorProto) -> Window | None:
    model = model_of(nodes, [value("x", [1, 2, SIZE, SIZE])], [value(result, None)], constants)
    return windows_of(nodes, "x", Flow(model).fixed, tensor_shapes(model, {})).get(result)


def seen(nodes: list[onnx.NodeProto], result: str, *constants: onnx.TensorProto) -> tuple[int, int]:
    """The rows of `x` that change the pixel in the middle of `result`, found by changing them; and by how many rows
    these move for the next pixel.
    """
    model = model_of(nodes, [value("x", [1, 2, SIZE, SIZE])], [value(result, None)], constants)
    x = np.zeros((1, 2, SIZE, SIZE), np.float32)
    base = run(model, {"x": x})[0]
    middle = base.shape[2] // 2
    rows: dict[int, list[int]] = {middle: [], middle + 1: []}
    for row in range(SIZE):
        changed = x.copy()
        changed[:, :, row] = np.random.default_rng(row).standard_normal((1, 2, SIZE)) + 3
        different = (run(model, {"x": changed})[0] != base).any(axis=(0, 1, 3))
        for pixel in rows:
            if different[pixel]:
                rows[pixel].append(row)
    return rows[middle][-1] - rows[middle][0] + 1, rows[middle + 1][0] - rows[middle][0]


def conv(source: str, result: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, "w"], [result], **attributes)


W = tensor("w", np.ones((2, 2, 3, 3), np.float32))
POOL: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.mark.parametrize(
    "nodes",
    [
        [conv("x", "y")],
        [conv("x", "a", pads=[1] * 4), conv("a", "y")],
        [conv("x", "a", strides=[2, 2]), conv("a", "y")],
        [conv("x", "a", dilations=[3, 3]), conv("a", "y", strides=[2, 2])],
        [conv("x", "a"), helper.make_node("MaxPool", ["a"], ["b"], **POOL), conv("b", "y")],
        [helper.make_node("AveragePool", ["x"], ["a"], **POOL), helper.make_node("Relu", ["a"], ["y"])],
        [conv("x", "a", pads=[1] * 4), helper.make_node("Add", ["a", "x"], ["y"])],
        [conv("x", "a", pads=[1] * 4), helper.make_node("Concat", ["x", "a"], ["y"], axis=1)],
    ],
)
def test_windows_are_what_changes_a_pixel(nodes: list[onnx.NodeProto]) -> None:
    found = window(nodes, "y", W)
    assert found is not None
    assert (found.side, found.stride) == seen(nodes, "y", W)


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Softmax", ["x"], ["y"], axis=1)],
        [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 3, 2])],
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=2)],
        [helper.make_node("Relu", ["x"], ["y"], domain="elsewhere")],
        [helper.make_node("InstanceNormalization", ["x", "s", "s"], ["y"])],
    ],
)
def test_other_operators_are_not_looked_through(nodes: list[onnx.NodeProto]) -> None:
    assert window(nodes, "y", W, tensor("s", np.ones(2, np.float32))) is None


def test_a_scale_of_one_pixel_says_nothing_of_repetitions() -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Mul", ["x", "mean"], ["scaled"]),
        conv("scaled", "y"),
    ]
    assert window(nodes, "scaled", W) == Window(1, 1)
    assert window(nodes, "y", W) == Window(3, 1)


def test_networks() -> None:
    windows = windows_of(chain().graph.node, "x", Flow(chain()).fixed, tensor_shapes(chain(), {}))
    assert windows["two"] == Window(5, 1) and windows["small"] == Window(6, 2) and windows["four"] == Window(14, 2)
    model = skips()
    windows = windows_of(model.graph.node, "x", Flow(model).fixed, tensor_shapes(model, {}))
    assert windows["residual"] == Window(14, 2)
    assert "both" not in windows  # behind a Resize
    inner = windows_of(model.graph.node, "small", Flow(model).fixed, tensor_shapes(model, {}))
    assert inner["residual"] == Window(5, 1) and "one" not in inner


def test_what_reads_another_input_is_not_known_by_one() -> None:
    net = Net()
    net.add("Add", [net.conv("x", "one"), "other"], "y")
    model = net.build("y")
    model.graph.input.append(value("other", [1, 16, 24, 24]))
    assert "y" not in windows_of(model.graph.node, "x", Flow(model).fixed, tensor_shapes(model, {}))
