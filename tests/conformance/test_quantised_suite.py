"""The QLinearConv and ConvInteger cases of the ONNX backend suite give the suite's results with our operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.reuse.geometry import TO_PIXEL_MAJOR
from tests.conformance.suite import node_tests
from tests.running import make_session, run_reference

Array = npt.NDArray[Any]


QLINEAR, INTEGER = ({test.name: test for test in node_tests(op)} for op in ("QLinearConv", "ConvInteger"))


def test_the_suite_has_such_cases() -> None:
    assert QLINEAR and INTEGER


def check_case(
    node: onnx.NodeProto, op: str, layout: str, x: Array, w: Array, constants: list[Array], expected: Array
) -> None:
    """Compares the kernels' and the reference's result; `constants` are all inputs but x."""
    x, expected = (array.transpose(TO_PIXEL_MAJOR).copy() for array in (x, expected))
    given = [numpy_helper.from_array(value, f"c{index}") for index, value in enumerate(constants)]
    ours = helper.make_node(op, ["X", *(each.name for each in given)], ["Y"], "conv", domain=DOMAIN)
    ours.attribute.extend(node.attribute)
    added: dict[str, Any] = {"kernel_shape": list(w.shape[2:]), "layout": layout, "sub_vector_length": 1}
    for key in added.keys() - {attribute.name for attribute in node.attribute}:
        ours.attribute.append(helper.make_attribute(key, added[key]))
    graph = helper.make_graph(
        [ours],
        "suite",
        [helper.make_tensor_value_info("X", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("Y", helper.np_dtype_to_tensor_dtype(expected.dtype), None)],
        given,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    np.testing.assert_array_equal(make_session(model).run(None, {"X": x})[0], expected, strict=True)
    np.testing.assert_array_equal(run_reference(model, x), expected, strict=True)


@pytest.mark.parametrize("layout", ["channel", "patch"])
@pytest.mark.parametrize("name", sorted(QLINEAR))
def test_qlinearconv_matches_the_suite(name: str, layout: str) -> None:
    test = QLINEAR[name]
    (node,) = test.model.graph.node
    for inputs, (expected,) in test.data_sets:
        x, *constants = map(np.asarray, inputs)
        check_case(node, "QLinearReuseConv", layout, x, constants[2], constants, expected)


@pytest.mark.parametrize("layout", ["channel", "patch"])
@pytest.mark.parametrize("name", sorted(INTEGER))
def test_convinteger_matches_the_suite(name: str, layout: str) -> None:
    """With a scale of 1, by which the floats are the suite's integers."""
    test = INTEGER[name]
    (node,) = test.model.graph.node
    for inputs, (expected,) in test.data_sets:
        x, w, *zero_points = map(np.asarray, inputs)
        zero_points += [np.zeros((), kind) for kind in (x.dtype, w.dtype)][len(zero_points) :]
        constants = [w, *zero_points, np.ones((), np.float32)]
        check_case(node, "ReuseConvInteger", layout, x, w, constants, expected.astype(np.float32))
