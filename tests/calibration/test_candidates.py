"""Candidates suit their layer: limits, layouts, no repetition, none that the cost model rules out."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_compiler.calibration.candidates import candidates, check_scope
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.options import BudgetName, CalibrationOptions, ScopeChoice
from reuse_compiler.errors import ConfigError
from reuse_compiler.fitting.reconstruct import MAX_ROWS, MIN_ROWS, reconstruction_rows
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.reuse.static_tables import table_bytes

LARGE = ConvSpec(8, 64, 56, 56, 256, (3, 3), (1, 1), (1, 1, 1, 1))


def tried(spec: ConvSpec, budget: BudgetName = "default", **options: Any) -> list[LayerSettings]:
    return candidates(spec, CalibrationOptions(**options), EFFORTS[budget])


@st.composite
def large_geometries(draw: st.DrawFn) -> ConvSpec:
    """Layers with enough output channels and rows to have candidates."""
    group = draw(st.sampled_from([1, 1, 2, 8]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 5), (2, 2), (7, 7)]))
    channels = draw(st.one_of(st.integers(1, 9), st.sampled_from([16, 24, 40, 64, 256])))
    return ConvSpec(draw(st.integers(1, 8)), group * channels, 40, 40, group * 128, kernel, group=group)


@settings(max_examples=60, deadline=None)
@given(spec=large_geometries(), budget=st.sampled_from(sorted(EFFORTS)), scope=st.sampled_from(get_args(ScopeChoice)))
def test_settings_are_within_the_layer_and_differ(spec: ConvSpec, budget: BudgetName, scope: str) -> None:
    found = tried(spec, budget, family="all", scope=scope)
    for own in found:
        blocking = own.blocking(spec)
        assert own.sub_vector_length <= blocking.group_width
        assert own.scope == scope or (scope == "both" and own.scope in ("batch", "static"))
        assert own.num_hashes <= FAMILIES[own.family].max_hashes
        assert not (FAMILIES[own.family].lossless and own.table == "int8")
        per_unit = blocking.vectors / (spec.batch if scope == "image" else 1)
        if own.scope == "static":
            assert own.family == "learned" and own.sub_vector_length <= 32 and 6 <= own.num_hashes <= 12
            assert table_bytes(spec, own) <= 2**27
        else:
            assert FAMILIES[own.family].expected_clusters(own.num_hashes) <= 0.5 * per_unit
    texts = [own.model_dump_json() for own in found]
    assert len(texts) == len(set(texts))
    assert len({own.layout for own in found}) <= 1, "vectors are sampled in one layout"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", EFFORTS)
def test_a_large_layer_has_some_of_every_family(family: str, budget: BudgetName) -> None:
    found = tried(LARGE, budget, family=family, scope="batch")
    assert found and {own.family for own in found} == {family}


def test_both_scopes_are_the_candidates_of_either() -> None:
    both, batch, static = (tried(LARGE, family="all", scope=scope) for scope in ("both", "batch", "static"))
    assert both == batch + static and len(static) > 20


def test_tables_that_memory_would_not_hold_are_not_tried() -> None:
    """512 to 512 channels: the tables of L=4 take 151 MB with 8 bits in int8, those of L=16 with 12 bits 604 MB."""
    spec = ConvSpec(8, 512, 28, 28, 512, (3, 3), (1, 1), (1, 1, 1, 1))
    found = [(s.sub_vector_length, s.num_hashes) for s in tried(spec, scope="static")]
    assert {(4, 6), (8, 8), (16, 9)} <= set(found)
    assert not {(4, 8), (8, 9), (16, 12)} & set(found)
    assert (4, 8) in [(s.sub_vector_length, s.num_hashes) for s in tried(spec, scope="static", table_memory=640)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scope": "static", "family": "sign"}, "--scope static has a centroid for each leaf of a tree"),
        ({"scope": "static", "strategy": "papers"}, "--strategy papers hashes as the papers do"),
        ({"scope": "session"}, "--scope session cannot be calibrated"),
    ],
)
def test_scopes_that_nothing_can_be_tried_of(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_scope(CalibrationOptions().model_copy(update=changes))


@pytest.mark.parametrize("changes", [{}, {"scope": "static"}, {"family": "sign"}, {"strategy": "papers"}])
def test_scopes_that_something_can_be_tried_of(changes: dict[str, str]) -> None:
    check_scope(CalibrationOptions().model_copy(update=changes))


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(1, 64, 2, 2, 64, (1, 1)),  # four vectors
        ConvSpec(8, 64, 56, 56, 1, (1, 1)),  # reading an element costs more than its one product
    ],
)
def test_a_layer_that_cannot_gain_has_none(spec: ConvSpec) -> None:
    assert tried(spec) == []


def test_larger_budgets_do_more() -> None:
    budgets: list[BudgetName] = ["quick", "default", "extensive"]
    counts = [len(tried(LARGE, name, family="all")) for name in budgets]
    assert counts == sorted(counts) and counts[0] < counts[2]
    rows = [reconstruction_rows(1000, EFFORTS[name].products) for name in budgets]
    assert MIN_ROWS <= rows[0] <= rows[1] <= rows[2] <= MAX_ROWS
