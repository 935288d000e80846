"""Scope session in onnxruntime: clusters that are kept from run to run, beside the reference and its state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator

import reuse_compiler
from reuse_compiler.reference.op_run import REFERENCE_OPS
from reuse_compiler.reuse.geometry import ConvSpec
from tests.custom_ops.cases import Case, session_cases
from tests.running import fed, make_session

SPEC = ConvSpec.of((2, 8, 9, 10), (12, 8, 3, 3), pads=(1, 1, 1, 1))
CASE = Case(SPEC, "channel", 4, "sign", 6, scope="session", distinct=12)


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@settings(max_examples=15, deadline=None)
@given(case=session_cases())
def test_runs_are_those_of_the_reference(case: Case, lowering: str) -> None:
    model = case.model(lowering)
    session, reference = make_session(model), ReferenceEvaluator(model, new_ops=REFERENCE_OPS)
    for x in case.inputs(3):
        with np.errstate(invalid="ignore"):  # some vectors are not finite
            expected = np.asarray(next(iter(reference.run(None, {"X": x}))))
        (actual,) = session.run(None, {"X": x})
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def test_twenty_batches_of_changing_sizes() -> None:
    model = CASE.model("fused")
    session = reuse_compiler.session(model.SerializeToString())
    reference = ReferenceEvaluator(model, new_ops=REFERENCE_OPS)
    rates = []
    for run, x in enumerate(CASE.inputs(20)):
        part = x[: 1 + run % 2, :, run % 4 :]
        expected = np.asarray(next(iter(reference.run(None, {"X": part}))))
        np.testing.assert_allclose(session.run(None, {"X": part})[0], expected, rtol=1e-4, atol=1e-4)
        (node,) = reuse_compiler.statistics(session)
        rates.append(node.last_reuse_rate)
    assert rates[0] == 0 and rates[-1] > 0.95, "64 codes and 20 batches: hardly a vector is new in the end"
    blocking = CASE.blocking
    assert node.reuse_rate is not None and 0.5 < node.reuse_rate < 1
    assert node.clusters == node.kept_clusters <= blocking.num_blocks * 64
    assert node.state_bytes == node.kept_clusters * 4 * (4 + 9 * 12)


def test_runs_at_the_same_time_are_lossless_with_exact() -> None:
    session = make_session(replace(CASE, family="exact").model("fused"))
    dense = make_session(CASE.model("dense"))
    inputs = CASE.inputs(24)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: session.run(None, {"X": x})[0], inputs))
    for x, actual in zip(inputs, results, strict=True):
        np.testing.assert_allclose(actual, dense.run(None, {"X": x})[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(actual, session.run(None, {"X": x})[0])


@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_sessions_share_nothing_and_forget_when_told(lowering: str) -> None:
    first, second = (reuse_compiler.session(CASE.model(lowering).SerializeToString()) for _ in range(2))
    x, other = CASE.inputs(2)
    fresh = first.run(None, {"X": x})[0]

    def kept(session: onnxruntime.InferenceSession) -> int:
        return sum(node.kept_clusters for node in reuse_compiler.statistics(session))

    assert kept(first) > 0 == kept(second)
    np.testing.assert_array_equal(second.run(None, {"X": x})[0], fresh)
    assert not np.array_equal(
        first.run(None, {"X": other})[0], make_session(CASE.model(lowering)).run(None, {"X": other})[0]
    )
    reuse_compiler.reset_clusters(first)
    assert kept(first) == 0 < kept(second)
    np.testing.assert_array_equal(first.run(None, {"X": x})[0], fresh)


def test_what_scope_session_cannot_be_combined_with_is_said_at_load() -> None:
    with pytest.raises(Exception, match=r"scope session .* table must be float"):
        make_session(replace(CASE, table="int8").model("fused"))
    with pytest.raises(Exception, match="scope session needs W, bias and the parameters of the hash that are constant"):
        make_session(fed(CASE.model("fused"), "W"))
