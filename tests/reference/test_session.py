"""Scope session of the reference, against Algorithm 1 of the training paper as it is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from onnx.reference import ReferenceEvaluator

from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reference.operators import cluster_vectors, hash_vectors
from reuse_compiler.reference.session import Kept, cluster_with_kept
from reuse_compiler.reference.vectors import neuron_vectors
from reuse_compiler.reuse.config import DEFAULT_MEMORY
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from tests.comparison import assert_close
from tests.custom_ops.cases import Array, Case, session_cases
from tests.running import run_reference

quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
SPEC = ConvSpec(2, 6, 4, 5, 7, (3, 3), pads=(1, 1, 1, 1))


def algorithm_1(vectors: Array, codes: Array, table: dict[int, Array]) -> tuple[Array, int]:
    """Returns the centroid of every vector [V, L] of a block, and how many were in `table`, which gets the new ones."""
    new: dict[int, list[Array]] = {}
    known = 0
    for vector, code in zip(vectors, codes.tolist(), strict=True):
        if code in table:
            known += 1
        else:
            new.setdefault(code, []).append(vector)
    table |= {code: np.asarray(np.mean(members, axis=0, dtype=np.float64), np.float32) for code, members in new.items()}
    return np.stack([table[code] for code in codes.tolist()]), known


@pytest.mark.parametrize("layout", ["channel", "patch"])
def test_twenty_batches_are_algorithm_1(layout: Any) -> None:
    case = Case(SPEC, layout, 4, "sign", 5, scope="session")
    blocking, kept = case.blocking, Kept.nothing(case.blocking)
    tables: list[dict[int, Array]] = [{} for _ in range(blocking.num_blocks)]
    rates = []
    for x in case.inputs(20):
        codes = hash_vectors(x, blocking, case.family, case.parameters())
        clusters, kept = cluster_with_kept(x, codes, blocking, kept, cluster_bytes=1)
        vectors, known = neuron_vectors(x, blocking), 0
        for block in range(blocking.num_blocks):
            expected, taken = algorithm_1(vectors[block], codes[block], tables[block])
            known += taken
            np.testing.assert_array_equal(clusters.centroids[block, clusters.ids[block]], expected)
        assert clusters.known == known
        rates.append(known / clusters.ids.size)
    assert rates[0] == 0 and rates[-1] > 0.9
    assert [set(codes.tolist()) for codes in kept.codes] == [set(table) for table in tables]


@quick
@given(case=session_cases())
def test_the_first_run_is_that_of_a_batch(case: Case) -> None:
    x = case.data()[0]
    for lowering in ("fused", "staged"):
        with np.errstate(invalid="ignore"):
            batch = run_reference(replace(case, scope="batch").model(lowering), x)
            np.testing.assert_array_equal(run_reference(case.model(lowering), x), batch)


@quick
@given(case=session_cases(families=["exact"]))
def test_exact_is_the_convolution_whatever_ran_before(case: Case) -> None:
    case = replace(case, spoiled=0)
    session = ReferenceEvaluator(case.model("fused"), new_ops=REFERENCE_OPS)
    for x in [*case.inputs(3), case.data()[0]]:
        actual: Any = session.run(None, {"X": x})
        assert_close(actual[0], run_reference(case.model("dense"), x), what=repr(case))


@quick
@given(case=session_cases())
def test_the_state_is_bounded_and_what_is_in_it_stays(case: Case) -> None:
    blocking, kept = case.blocking, Kept.nothing(case.blocking)
    verify, metric = case.family == "exact", case.metric
    row = 4 * (case.sub_vector_length + blocking.table_width)
    for x in case.inputs(4):
        codes = hash_vectors(x, blocking, case.family, case.parameters())
        clusters, after = cluster_with_kept(
            x, codes, blocking, kept, row, case.memory, case.capacity, metric, verify  # type: ignore[arg-type]
        )  # fmt: skip
        assert after.count * row <= case.memory
        made = int(clusters.counts.sum()) - kept.count - clusters.guarded
        assert after.count == min(kept.count + made, case.memory // row)
        for block in range(blocking.num_blocks):
            count = len(kept.codes[block])
            assert len(set(after.codes[block].tolist())) == len(after.codes[block])
            np.testing.assert_array_equal(after.codes[block][:count], kept.codes[block])
            np.testing.assert_array_equal(after.centroids[block][:count], kept.centroids[block])
            np.testing.assert_array_equal(clusters.centroids[block, :count], kept.centroids[block])
            assert np.isfinite(after.centroids[block]).all() or verify
        kept = after


def test_numbers_and_the_guard_by_hand() -> None:
    x = np.array([1, 3, np.nan, 5, 9, 7], np.float32).reshape(1, 1, 1, 6)
    blocking = Blocking(ConvSpec(1, 1, 1, 6, 1, (1, 1)), "channel", 1)
    kept = Kept((np.array([7, 4]),), (np.array([[10], [20]], np.float32),))
    codes = np.array([[8, 4, 4, 8, 6, 2]])
    clusters, after = cluster_with_kept(x, codes, blocking, kept, 8, memory=8 * 3, capacity=0.3)
    np.testing.assert_array_equal(clusters.ids, [[2, 1, 3, 2, 4, 5]])  # 6 is the second new code, 2 the guard's
    np.testing.assert_array_equal(clusters.centroids[0, :, 0], [10, 20, 3, np.nan, 9, 7])
    assert (clusters.guarded, clusters.known) == (2, 1)
    assert after.codes[0].tolist() == [7, 4, 8] and after.centroids[0][:, 0].tolist() == [10, 20, 3]


def test_a_vector_of_other_bits_than_its_code_s_is_alone_with_verify() -> None:
    """So an input that is made to have the codes of others neither shares with them nor fills the state."""
    x = np.array([2, 5, 5, 0], np.float32).reshape(1, 1, 1, 4)
    blocking = Blocking(ConvSpec(1, 1, 1, 4, 1, (1, 1)), "channel", 1)
    kept = Kept((np.array([1]),), (np.array([[2]], np.float32),))
    clusters, after = cluster_with_kept(x, np.array([[1, 1, 1, 3]]), blocking, kept, 8, verify=True)
    np.testing.assert_array_equal(clusters.ids, [[0, 1, 2, 3]])
    assert (clusters.guarded, clusters.known) == (2, 1) and after.codes[0].tolist() == [1, 3]


def test_an_empty_state_is_the_batch_s_clusters() -> None:
    case = Case(SPEC, "channel", 3, "sign", 4, scope="session", metric="angular")
    x = case.data()[0]
    codes = hash_vectors(x, case.blocking, case.family, case.parameters())
    clusters, kept = cluster_with_kept(
        x, codes, case.blocking, Kept.nothing(case.blocking), 1, DEFAULT_MEMORY, metric="angular"
    )
    expected = cluster_vectors(x, codes, case.blocking, metric="angular")
    np.testing.assert_array_equal(clusters.ids, expected.ids)
    np.testing.assert_array_equal(clusters.centroids, expected.centroids)
    assert kept.count == expected.counts.sum() and clusters.known == 0
