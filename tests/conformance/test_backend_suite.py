"""Every Conv case of the ONNX backend suite computes the suite's expected outputs after compilation."""

from __future__ import annotations

import numpy as np
import pytest

from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import Lowering
from tests.conformance.suite import load_cases
from tests.running import make_session

RTOL, ATOL = 1e-3, 1e-5

CASES = {case.name: case for case in load_cases()}


def test_the_suite_has_the_cases_that_this_test_is_about() -> None:
    assert len(CASES) >= 40
    assert {case.kernel_rank for case in CASES.values()} == {1, 2, 3}
    assert {"3-D", "depthwise", None} <= {case.expected_refusal for case in CASES.values()}


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_case_matches_the_suite(name: str, lowering: Lowering) -> None:
    case = CASES[name]
    lowered = lower(case.model, CompileOptions(family="exact", force=True, lowering=lowering))
    decisions = [(layer.decision, layer.reason) for layer in lowered.layers]
    assert len(decisions) == len(case.convs)
    if case.expected_refusal is not None:
        assert all(decision == "dense" and case.expected_refusal in reason for decision, reason in decisions)
        assert lowered.model is case.model
    else:
        assert all(decision == "reuse" for decision, _ in decisions), decisions
        operators = {node.op_type for node in lowered.model.graph.node if node.domain == "ai.reuse"}
        assert operators == ({"ReuseConv"} if lowering == "fused" else {"Hash", "Cluster", "CentroidGemm", "Gather"})
        assert not any(node.op_type == "Conv" for node in lowered.model.graph.node)
    session = make_session(lowered.model)
    for feed, expected in case.data:
        for actual, wanted in zip(session.run(None, feed), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=RTOL, atol=ATOL)
