"""Candidates suit their layer: limits, layouts, no repetition, none that the cost model rules out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_compiler.calibration.candidates import candidates
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.options import BudgetName
from reuse_compiler.fitting.reconstruct import MAX_ROWS, MIN_ROWS, reconstruction_rows
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec

LARGE = ConvSpec(8, 64, 56, 56, 256, (3, 3), (1, 1), (1, 1, 1, 1))


@st.composite
def large_geometries(draw: st.DrawFn) -> ConvSpec:
    """Layers with enough output channels and rows to have candidates."""
    group = draw(st.sampled_from([1, 1, 2, 8]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (1, 5), (2, 2), (7, 7)]))
    channels = draw(st.one_of(st.integers(1, 9), st.sampled_from([16, 24, 40, 64, 256])))
    return ConvSpec(draw(st.integers(1, 8)), group * channels, 40, 40, group * 128, kernel, group=group)


@settings(max_examples=60, deadline=None)
@given(spec=large_geometries(), budget=st.sampled_from(sorted(EFFORTS)), scope=st.sampled_from(["image", "batch"]))
def test_settings_are_within_the_layer_and_differ(spec: ConvSpec, budget: BudgetName, scope: str) -> None:
    found = candidates(spec, "all", scope, EFFORTS[budget])  # type: ignore[arg-type]
    for own in found:
        blocking = own.blocking(spec)
        assert own.sub_vector_length <= blocking.group_width
        assert own.scope == scope and own.num_hashes <= FAMILIES[own.family].max_hashes
        assert not (FAMILIES[own.family].lossless and own.table == "int8")
        per_unit = blocking.vectors / (spec.batch if scope == "image" else 1)
        assert FAMILIES[own.family].expected_clusters(own.num_hashes) <= 0.5 * per_unit
    texts = [own.model_dump_json() for own in found]
    assert len(texts) == len(set(texts))
    assert len({own.layout for own in found}) <= 1, "vectors are sampled in one layout"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", EFFORTS)
def test_a_large_layer_has_some_of_every_family(family: str, budget: BudgetName) -> None:
    found = candidates(LARGE, family, "batch", EFFORTS[budget])  # type: ignore[arg-type]
    assert found and {own.family for own in found} == {family}


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(1, 64, 2, 2, 64, (1, 1)),  # four vectors
        ConvSpec(8, 64, 56, 56, 1, (1, 1)),  # reading an element costs more than its one product
    ],
)
def test_a_layer_that_cannot_gain_has_none(spec: ConvSpec) -> None:
    assert candidates(spec, "learned", "batch", EFFORTS["default"]) == []


def test_larger_budgets_do_more() -> None:
    budgets: list[BudgetName] = ["quick", "default", "extensive"]
    counts = [len(candidates(LARGE, "all", "batch", EFFORTS[name])) for name in budgets]
    assert counts == sorted(counts) and counts[0] < counts[2]
    rows = [reconstruction_rows(1000, EFFORTS[name].products) for name in budgets]
    assert MIN_ROWS <= rows[0] <= rows[1] <= rows[2] <= MAX_ROWS
