"""Every QLinearConv case of the ONNX backend suite gives the suite's bytes when QLinearReuseConv takes its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.reuse.geometry import TO_PIXEL_MAJOR
from tests.running import make_session, run_reference


def load_cases() -> dict[str, Any]:
    tests = load_model_tests(kind="node")
    return {test.name: test for test in tests if test.name.startswith("test_qlinearconv")}


CASES = load_cases()


def test_the_suite_has_such_cases() -> None:
    assert CASES


@pytest.mark.parametrize("layout", ["channel", "patch"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_case_matches_the_suite(name: str, layout: str) -> None:
    test = CASES[name]
    (node,) = test.model.graph.node
    for inputs, (expected,) in test.data_sets:
        x, *constants = map(np.asarray, inputs)
        x, expected = (array.transpose(TO_PIXEL_MAJOR).copy() for array in (x, expected))
        given = [numpy_helper.from_array(value, f"c{index}") for index, value in enumerate(constants)]
        ours = helper.make_node("QLinearReuseConv", ["X", *(each.name for each in given)], ["Y"], "conv", domain=DOMAIN)
        ours.attribute.extend(node.attribute)
        added: dict[str, Any] = {"kernel_shape": list(constants[2].shape[2:])}
        added |= {"layout": layout, "sub_vector_length": 1}
        for key in added.keys() - {attribute.name for attribute in node.attribute}:
            ours.attribute.append(helper.make_attribute(key, added[key]))
        element = helper.np_dtype_to_tensor_dtype(x.dtype)
        graph = helper.make_graph(
            [ours],
            "suite",
            [helper.make_tensor_value_info("X", element, x.shape)],
            [helper.make_tensor_value_info("Y", helper.np_dtype_to_tensor_dtype(expected.dtype), None)],
            given,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        np.testing.assert_array_equal(make_session(model).run(None, {"X": x})[0], expected, strict=True)
        np.testing.assert_array_equal(run_reference(model, x), expected, strict=True)
