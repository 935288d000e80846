"""Incremental nodes in onnxruntime: sums that are kept from run to run never show in a result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import reuse_compiler
from reuse_compiler.reuse.geometry import ConvSpec
from tests.custom_ops.cases import Case, static_cases
from tests.running import make_session, run_reference

SPEC = ConvSpec.of((2, 16, 12, 20), (70, 16, 3, 3), pads=(1, 1, 1, 1))
CASE = Case(SPEC, "channel", 8, "learned", 6, scope="static", table="int8", incremental=True)


def changed(x: Any, share: float, random: np.random.Generator) -> Any:
    """Returns the input with that share of its elements drawn anew."""
    return np.where(random.random(x.shape) < share, random.normal(size=x.shape), x).astype(np.float32)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=static_cases(tables=["int8"]), shares=st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]), max_size=6))
def test_histories_do_not_show(case: Case, shares: list[float]) -> None:
    case = replace(case, incremental=True, keep_tables=True)
    note(repr(case))
    session, random, x = make_session(case.model("fused")), np.random.default_rng(case.seed), case.data()[0]
    for index, share in enumerate([0.0, *shares, 0.0]):
        x = changed(x, share, random)
        part = x[: max(1, x.shape[0] - index % 3 // 2)]
        with np.errstate(invalid="ignore"):
            expected = run_reference(case.model("fused"), part)
        np.testing.assert_array_equal(session.run(None, {"X": part})[0], expected, err_msg=f"run {index}")


def test_runs_at_the_same_time_are_those_of_a_fresh_session() -> None:
    session, plain = make_session(CASE.model("fused"), 2), make_session(replace(CASE, incremental=False).model("fused"))
    random = np.random.default_rng(0)
    inputs = [CASE.data()[0]]
    inputs += [changed(inputs[0], 0.02, random) for _ in range(30)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda x: session.run(None, {"X": x})[0], inputs))
    for x, actual in zip(inputs, results, strict=True):
        np.testing.assert_array_equal(actual, plain.run(None, {"X": x})[0])


def test_statistics_tell_what_changed_and_a_reset_forgets() -> None:
    session = reuse_compiler.session(CASE.model("fused").SerializeToString())
    x = CASE.data()[0]
    for run in (x, x, changed(x, 0.01, np.random.default_rng(1))):
        session.run(None, {"X": run})
    (node,) = reuse_compiler.statistics(session)
    assert (node.runs, node.anew) == (3, 1)
    assert 0 < node.changed < node.vectors / 3 and node.recomputed < node.rows
    assert node.state_bytes == 2 * 2 * 2 * 2 * 14 * 22 + 128 * 2 * 12 * 20 * 2
    reuse_compiler.reset_clusters(session)
    assert reuse_compiler.statistics(session)[0].state_bytes == 0
    session.run(None, {"X": x})
    assert reuse_compiler.statistics(session)[0].anew == 2


@pytest.mark.parametrize("wrong", [{"table": "float"}, {"keep_tables": False}])
def test_only_exact_sums_of_kept_tables_can_be_kept(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"ReuseConv 'conv': incremental is 1, .* scope must be static, table int8"):
        make_session(replace(CASE, **wrong).model("fused"))
