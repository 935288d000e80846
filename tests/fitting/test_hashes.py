"""What is fitted suits the operators, whatever the family, the layer and the sample."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from reuse_compiler.fitting.hashes import HashFitter, VectorSample, VectorSampler
from reuse_compiler.fitting.vectors import cut
from reuse_compiler.reference.vectors import neuron_vectors
from reuse_compiler.reuse.config import LayerSettings, make_settings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.families.base import project
from reuse_compiler.reuse.geometry import Blocking, ConvSpec, Layout
from reuse_compiler.reuse.plan import check_parameters
from tests.custom_ops.cases import Case, cases
from tests.passes.models import random_array

GEOMETRY = ConvSpec(2, 12, 6, 6, 10, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2)
WEIGHTS = random_array(*GEOMETRY.weight_shape)


def sample_of(
    spec: ConvSpec, layout: Layout, x: NDArray[np.float32], count: int = 10**6, seed: int = 0
) -> VectorSample:
    sampler = VectorSampler("conv", spec, layout, count, 1, seed)
    sampler.add(x)
    return sampler.sample()


def input_of(spec: ConvSpec) -> NDArray[np.float32]:
    return random_array(*spec.input_shape)


def settings_of(family: str, layout: Layout = "channel", length: int = 4, hashes: int = 3) -> LayerSettings:
    return make_settings(family=family, layout=layout, L=length, H=1 if family == "exact" else hashes)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_a_sample_of_everything_is_all_neuron_vectors(case: Case) -> None:
    x, _, _ = case.data()
    blocks = cut(sample_of(case.spec, case.layout, x).vectors, case.blocking)
    np.testing.assert_array_equal(blocks, neuron_vectors(x, case.blocking))


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_the_operators_accept_what_is_fitted(case: Case) -> None:
    own = make_settings(family=case.family, layout=case.layout, L=case.sub_vector_length, H=case.num_hashes)
    x, weights, _ = case.data()
    fitted = HashFitter(sample_of(case.spec, case.layout, x), weights).fit(own)
    check_parameters(fitted, own, case.blocking, "conv")
    for name, array in fitted.items():
        assert array is None or not np.isnan(array).any(), name
        assert array is None or array.dtype == (np.int32 if name == "coordinates" else np.float32), name


@pytest.mark.parametrize("family", ["sign", "learned"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_vectors_that_are_not_finite_do_not_take_part(family: str, bad: float) -> None:
    x = input_of(GEOMETRY)
    clean = HashFitter(sample_of(dataclasses.replace(GEOMETRY, batch=1), "channel", x[:1]), WEIGHTS).fit(
        settings_of(family)
    )
    x[1, 3] = bad  # one channel of each pixel of the second image
    found = HashFitter(sample_of(GEOMETRY, "channel", x), WEIGHTS).fit(settings_of(family))
    for (name, first), (_, second) in zip(clean.items(), found.items(), strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [0.0, np.nan, 3e38])
@pytest.mark.parametrize("layout", ["patch", "channel"])
def test_nothing_to_fit_to(family: str, value: float, layout: Layout) -> None:
    x = np.full_like(input_of(GEOMETRY), value)
    own = settings_of(family, layout)
    fitted = HashFitter(sample_of(GEOMETRY, layout, x), WEIGHTS).fit(own)
    check_parameters(fitted, own, Blocking(GEOMETRY, layout, 4), "conv")
    assert all(array is None or not np.isnan(array).any() for _, array in fitted.items())


def test_signs_are_balanced() -> None:
    """Each hyperplane goes through the mean, although all vectors lie on one side of those through zero."""
    x = input_of(GEOMETRY) + 20
    sample, blocking = sample_of(GEOMETRY, "channel", x), Blocking(GEOMETRY, "channel", 4)
    fitted = HashFitter(sample, WEIGHTS).fit(settings_of("sign", hashes=12))
    assert fitted.projections is not None and fitted.thresholds is not None
    for block, vectors in enumerate(cut(sample.vectors, blocking)):
        above = (project(vectors, fitted.projections[block]) > fitted.thresholds[block]).mean(axis=0)
        assert (np.abs(above - 0.5) < 0.25).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_repeats_and_a_name_counts(family: str) -> None:
    def fit(seed: int, name: str) -> HashParameters:
        sampler = VectorSampler(name, GEOMETRY, "channel", 30, 2, seed)
        for x in (input_of(GEOMETRY), -input_of(GEOMETRY)):
            sampler.add(x)
        return HashFitter(sampler.sample(), WEIGHTS).fit(settings_of(family))

    def content(parameters: HashParameters) -> list[bytes]:
        return [array.tobytes() for _, array in parameters.items() if array is not None]

    first = content(fit(0, "conv"))
    assert first == content(fit(0, "conv"))
    if family != "exact":
        assert content(fit(1, "conv")) != first != content(fit(0, "other"))


def test_runs_have_equal_shares() -> None:
    sampler = VectorSampler("conv", GEOMETRY, "channel", 30, 3, 0)
    for value in range(3):
        sampler.add(np.full_like(input_of(GEOMETRY), value))
    np.testing.assert_array_equal(np.unique(sampler.sample().vectors[:, 0], return_counts=True)[1], [10, 10, 10])
