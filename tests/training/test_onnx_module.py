"""ONNX graphs in PyTorch: the same results as in onnxruntime, and a sentence for what is not known."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from reuse_compiler.errors import ConfigError  # noqa: E402
from reuse_compiler.training import convert, export_onnx  # noqa: E402
from reuse_compiler.training.onnx_module import OnnxModule  # noqa: E402
from tests.comparison import assert_close  # noqa: E402
from tests.passes.models import model_of, random_array, run, tensor, value  # noqa: E402

CONSTANTS = [
    *(tensor(name, np.abs(random_array(8, seed=i)) + np.float32(0.5)) for i, name in enumerate(("s", "b", "m", "v"))),
    tensor("low", np.float32(-0.5)),
    tensor("high", np.float32(0.7)),
    tensor("shape", np.array([0, -1], np.int64)),
    tensor("matrix", random_array(200, 5)),
    tensor("fc.weight", random_array(6, 200, seed=1)),
    tensor("fc.bias", random_array(6, seed=2)),
    tensor("scales", np.array([1, 1, 2, 2], np.float32)),
]
NODES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "Add": (["x", "x"], {}),
    "AveragePool": (["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "BatchNormalization": (["x", "s", "b", "m", "v"], {"epsilon": 1e-2}),
    "Clip": (["x", "low", "high"], {}),
    "Concat": (["x", "x"], {"axis": 1}),
    "Dropout": (["x"], {}),
    "Flatten": (["x"], {"axis": 1}),
    "GlobalAveragePool": (["x"], {}),
    "Identity": (["x"], {}),
    "LeakyRelu": (["x"], {"alpha": 0.2}),
    "MaxPool": (["x"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "Mul": (["x", "x"], {}),
    "Relu": (["x"], {}),
    "Reshape": (["x", "shape"], {}),
    "Resize": (["x", "", "scales"], {"mode": "linear"}),
    "Sigmoid": (["x"], {}),
    "Softmax": (["x"], {"axis": 1}),
    "Sub": (["x", "high"], {}),
}


def model_with(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return model_of(list(nodes), [value("x", ["N", 8, 5, 5])], [value(nodes[-1].output[0], None)], CONSTANTS)


def assert_same(model: onnx.ModelProto) -> None:
    x = random_array(2, 8, 5, 5)
    found = OnnxModule(model).eval()(torch.from_numpy(x)).detach().numpy()
    assert_close(found, run(model, {"x": x})[0])


@pytest.mark.parametrize("operator", NODES)
def test_an_operator_computes_the_same(operator: str) -> None:
    inputs, attributes = NODES[operator]
    assert_same(model_with(helper.make_node(operator, inputs, ["y"], **attributes)))


def test_clip_with_one_end_and_a_matrix_product() -> None:
    reshape, product = (
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "matrix"], ["p"]),
    )
    assert_same(model_with(reshape, product, helper.make_node("Clip", ["p", "", "high"], ["y"])))


def test_matrices_and_biases_of_gemm_are_parameters() -> None:
    """The copies of two modules are each its own, and gradients reach them."""
    flatten = helper.make_node("Flatten", ["x"], ["f"])
    model = model_with(flatten, helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], transB=1))
    assert_same(model)
    module = OnnxModule(model)
    other, x = copy.deepcopy(module), torch.from_numpy(random_array(2, 8, 5, 5))
    assert sorted(tuple(own.shape) for own in module.parameters()) == [(6,), (6, 200)]
    before = other(x).detach()
    module(x).square().sum().backward()
    with torch.no_grad():
        for own in module.parameters():
            assert own.grad is not None
            own.sub_(own.grad, alpha=0.1)
    assert torch.equal(other(x), before) and not torch.equal(module(x), before)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))


def test_convolutions_without_names_are_told_apart() -> None:
    nodes = [helper.make_node("Conv", [a, "w"], [b], pads=[1, 1, 1, 1]) for a, b in (("x", "c"), ("c", "y"))]
    model = model_of(nodes, [value("x", ["N", 8, 5, 5])], [value("y", None)], [tensor("w", random_array(8, 8, 3, 3))])
    assert_same(model)
    assert set(OnnxModule(model).names) == {"c", "y"}


@pytest.mark.parametrize(("pads", "exported"), [([0, 0, 0, 0], False), ([0, 0, 1, 1], True)])
def test_a_pool_is_padded_only_where_there_are_pads(pads: list[int], exported: bool, tmp_path: Path) -> None:
    """A Pad of nothing would keep the pixel-major layout from passing through the pool."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=pads),
    ]
    model = model_of(nodes, [value("x", ["N", 8, 5, 5])], [value("y", None)], [tensor("w", random_array(8, 8, 2, 2))])
    module, x = OnnxModule(model), torch.from_numpy(random_array(2, 8, 5, 5))
    convert(module, x)
    export_onnx(module.eval(), tmp_path / "net.onnx", x)
    assert ("Pad" in {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}) == exported


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="operator Erf"):
        OnnxModule(model_with(helper.make_node("Erf", ["x"], ["y"])))
    with pytest.raises(ConfigError, match="no initializers"):
        OnnxModule(model_with(helper.make_node("Conv", ["x", "x"], ["y"])))
    two = model_with(helper.make_node("Add", ["x", "z"], ["y"]))
    two.graph.input.append(value("z", ["N", 8, 5, 5]))
    with pytest.raises(ConfigError, match="2 inputs"):
        OnnxModule(two)
