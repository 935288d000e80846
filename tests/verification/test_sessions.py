"""Runs on memory of their own, and on another run's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.verification.sessions import BoundRun, open_session

X = np.arange(4, dtype=np.float32)


def scaled(factor: float) -> onnx.ModelProto:
    """Returns a model that multiplies four numbers."""
    value = helper.make_tensor("factor", onnx.TensorProto.FLOAT, [1], [factor])
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "scaled", ends[:1], ends[1:], [value])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run_of(factor: float, beside: BoundRun | None = None) -> BoundRun:
    return BoundRun(open_session(scaled(factor), 1, "the model", plain=True), X, X.shape, beside)


@pytest.mark.parametrize("shared", [False, True])
def test_only_a_run_beside_another_one_overwrites_its_result(shared: bool) -> None:
    first = run_of(2.0)
    other = run_of(3.0, first if shared else None)
    first()
    kept = first.output
    other()
    np.testing.assert_array_equal(kept, 2.0 * X)
    np.testing.assert_array_equal(other.output, 3.0 * X)
    np.testing.assert_array_equal(first.output, (3.0 if shared else 2.0) * X)
