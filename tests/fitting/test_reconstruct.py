"""Reconstruction: what least squares promise, and data on which they could go wrong."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from reuse_compiler.fitting import reconstruct as reconstruct_module
from reuse_compiler.fitting.reconstruct import (
    CHUNK,
    MOST_COLUMNS,
    ROWS,
    Moments,
    Reconstruction,
    _refitted,
    _solved,
    affordable,
    folded_weight,
    overall_errors,
    reconstruct,
    unfolded_weight,
)
from reuse_compiler.reference.vectors import unfold
from reuse_compiler.reuse.activation import NO_ACTIVATION
from tests.comparison import assert_close, relative_error
from tests.custom_ops.cases import Case, cases
from tests.passes.models import random_array, run

Floats = NDArray[np.float32]


def moments_of(x: Floats, y: Floats) -> Moments:
    moments = Moments(x.shape[1], y.shape[1])
    moments.add(x, y)
    return moments


def solve(x: Floats, y: Floats, weight: Floats, bias: Floats, how: Any = "weights") -> Reconstruction:
    """Reconstructs with the last quarter of the rows for checking."""
    cut = len(x) * 3 // 4
    return reconstruct(moments_of(x[:cut], y[:cut]), moments_of(x[cut:], y[cut:]), weight, bias, how)


class TestMoments:
    def test_they_are_those_of_all_rows(self) -> None:
        rows = CHUNK + 300
        x, y = random_array(rows, 4) + 3, random_array(rows, 2) - 1
        parts = Moments(4, 2)
        for start, stop in ((0, 7), (7, 7), (7, CHUNK + 30), (CHUNK + 30, rows)):
            parts.add(x[start:stop], y[start:stop])
        joined = moments_of(x[:50], y[:50])
        joined.include(moments_of(x[50:], y[50:]))
        both = np.cov(np.concatenate([x, y], axis=1).astype(np.float64).T, bias=True)
        for moments in (parts, joined):
            assert moments.count == rows
            assert_close(moments.mean_x, x.mean(axis=0, dtype=np.float64))
            assert_close(moments.covariance(), both[:4, :4])
            assert_close(moments.cross_covariance(), both[:4, 4:])
            assert_close(moments.variance_y(), np.diag(both)[4:])
            assert moments.energy == pytest.approx(float(np.square(y, dtype=np.float64).sum()))

    def test_many_columns_are_summed_a_few_rows_of_the_matrix_at_a_time(self) -> None:
        x, y = random_array(40, ROWS + 3) + 2, random_array(40, 1)
        moments = moments_of(x[:10], y[:10])
        moments.add(x[10:], y[10:])
        assert_close(moments.covariance(), np.cov(x.astype(np.float64).T, bias=True))

    def test_products_are_those_of_the_rows_so_far(self) -> None:
        x, y, weight = random_array(60, 5), random_array(60, 2), random_array(5, 2).astype(np.float64)
        moments = moments_of(x[:20], y[:20])
        first = moments.products(weight)
        assert moments.products(weight) is first
        moments.add(x[20:], y[20:])
        for own in (weight, 2 * weight):
            assert_close(moments.products(own), np.cov(x.astype(np.float64).T, bias=True) @ own)
        assert moments.mean_variance() == pytest.approx(float(x.astype(np.float64).var(axis=0).mean()))

    def test_the_error_is_that_of_the_rows(self) -> None:
        x, weight, bias = random_array(500, 4), random_array(4, 3), random_array(3)
        y = random_array(500, 3, seed=1)
        found = moments_of(x, y).relative_error(weight.astype(np.float64), bias.astype(np.float64))
        assert found == pytest.approx(relative_error(x @ weight + bias, y), rel=1e-4)

    def test_a_large_mean_does_not_drown_the_variance(self) -> None:
        deviations = random_array(2000, 3)
        x = 300 + np.float32(0.03) * deviations
        covariance = moments_of(x, x).covariance()
        assert_close(covariance, np.cov(x.astype(np.float64).T, bias=True), rtol=1e-3, atol=0)

    def test_rows_that_are_not_finite_do_not_count(self) -> None:
        x, y = random_array(20, 3), random_array(20, 2)
        broken_x, broken_y = np.concatenate([x, x[:3]]), np.concatenate([y, y[:3]])
        broken_x[-1, 0], broken_x[-2, 1], broken_y[-3, 1] = np.nan, np.inf, -np.inf
        found, expected = moments_of(broken_x, broken_y), moments_of(x, y)
        assert found.count == 20
        np.testing.assert_array_equal(found.covariance(), expected.covariance())


class TestWeights:
    def test_the_right_weights_are_found(self) -> None:
        x, right, bias = random_array(800, 6), random_array(6, 4), random_array(4)
        found = solve(x, x @ right + bias, np.zeros((6, 4), np.float32), np.zeros(4, np.float32))
        assert found.error_as_is == pytest.approx(1.0)
        assert found.error < 2e-3  # the weakest ridge pulls a thousandth towards zero
        assert_close(found.weight, right, rtol=2e-3)
        assert_close(found.bias, bias, rtol=2e-3)

    def test_weights_that_are_right_stay(self) -> None:
        x, weight, bias = random_array(400, 6), random_array(6, 4), random_array(4)
        found = solve(x, x @ weight + bias, weight, bias)
        assert_close(found.weight, weight)
        assert_close(found.bias, bias)
        assert found.error <= found.error_as_is < 1e-5

    @pytest.mark.parametrize("how", ["statistics", "weights"])
    @pytest.mark.parametrize("rows", [8, 40, 4000])
    def test_it_is_never_worse_on_the_rows_that_judge(self, how: Any, rows: int) -> None:
        """Whatever is to be had: from noise to a good fit, with fewer rows than columns."""
        for seed, noise in enumerate((0.0, 0.3, 3.0, 100.0)):
            x = random_array(rows, 20, seed=seed)
            weight, bias = random_array(20, 3, seed=seed), random_array(3, seed=seed)
            y = x @ weight + bias + np.float32(noise) * random_array(rows, 3, seed=seed + 9)
            found = solve(x, y, weight, bias, how)
            cut = rows * 3 // 4
            assert found.error_as_is == pytest.approx(relative_error(x[cut:] @ weight + bias, y[cut:]), abs=1e-3)
            assert found.error <= found.error_as_is
            assert np.isfinite(found.weight).all() and np.abs(found.weight).max() < 10 * np.abs(weight).max()

    def test_many_columns_are_fitted_in_float32(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, weight, bias = random_array(800, 40), random_array(40, 4), random_array(4)
        arguments = x, x @ random_array(40, 4, seed=1) + bias, weight, bias
        exact = solve(*arguments)
        monkeypatch.setattr(reconstruct_module, "FEW_COLUMNS", 39)
        assert moments_of(*arguments[:2]).covariance().dtype == np.float32
        found = solve(*arguments)
        assert_close(found.weight, exact.weight, rtol=1e-4)
        assert found.error == pytest.approx(exact.error, rel=1e-3) and found.error < 0.01 * found.error_as_is

    def test_more_is_refitted_than_rescaled(self) -> None:
        """Half of the columns are noise to the output, which no scale can mend."""
        x, weight = random_array(2000, 8), random_array(8, 3)
        right = weight.copy()
        right[::2] = 0
        arguments = x, x @ right, weight, np.zeros(3, np.float32)
        assert solve(*arguments, "weights").error < 0.1 * solve(*arguments, "statistics").error

    def test_columns_that_are_equal_or_constant(self) -> None:
        x = random_array(300, 6)
        x[:, 3], x[:, 4], x[:, 5] = x[:, 2], 7.0, 0.0
        right = random_array(6, 2)
        found = solve(x, x @ right, np.zeros((6, 2), np.float32), np.zeros(2, np.float32))
        assert found.error < 0.01 and np.isfinite(found.weight).all()


class TestStatistics:
    def test_mean_and_deviation_become_right(self) -> None:
        x, weight, bias = random_array(4000, 5), random_array(5, 3), random_array(3)
        scale, shift = np.array([2.0, 0.5, 1.5], np.float32), np.array([1.0, -2.0, 0.0], np.float32)
        y = (x @ weight) * scale + shift
        found = solve(x, y, weight, bias, "statistics")
        actual = x @ found.weight + found.bias
        assert_close(actual.mean(axis=0), y.mean(axis=0), rtol=1e-3)
        assert_close(actual.std(axis=0), y.std(axis=0), rtol=1e-3)
        assert_close(found.weight, weight * scale, rtol=1e-3)

    def test_a_channel_that_hardly_varies_is_not_stretched(self) -> None:
        x, weight = random_array(400, 4), random_array(4, 2)
        y = x @ weight
        constant = weight.copy()
        constant[:, 1] = 0
        found = solve(x, y, constant, np.zeros(2, np.float32), "statistics")
        np.testing.assert_array_equal(found.weight[:, 1], 0)


class TestNothingToFitTo:
    @pytest.mark.parametrize("how", ["statistics", "weights"])
    def test_inputs_of_zeros(self, how: Any) -> None:
        weight, bias = random_array(4, 3), random_array(3)
        x, y = np.zeros((40, 4), np.float32), np.broadcast_to(bias + 1, (40, 3)).astype(np.float32)
        found = solve(x, y, weight, bias, how)
        assert_close(found.weight, weight)
        assert_close(found.bias, bias + 1)

    def test_outputs_of_zeros(self) -> None:
        weight = random_array(4, 3)
        found = solve(np.zeros((40, 4), np.float32), np.zeros((40, 3), np.float32), weight, np.zeros(3, np.float32))
        assert found.error == found.error_as_is == 0.0
        np.testing.assert_array_equal(found.weight, weight)

    @pytest.mark.parametrize("empty", ["fit", "check"])
    def test_no_rows(self, empty: str) -> None:
        weight, bias = random_array(4, 3), random_array(3)
        full, none = moments_of(random_array(9, 4), random_array(9, 3)), Moments(4, 3)
        found = reconstruct(*((none, full) if empty == "fit" else (full, none)), weight, bias, "weights")
        np.testing.assert_array_equal(found.weight, weight)
        np.testing.assert_array_equal(found.bias, bias)
        assert (found.error_as_is, found.error) == (0.0, 0.0)

    def test_none_changes_nothing(self) -> None:
        weight, bias = random_array(4, 3), random_array(3)
        found = solve(random_array(80, 4), random_array(80, 3), weight, bias, "none")
        assert found.weight is weight and found.bias is bias and found.error == found.error_as_is > 0


def test_the_error_of_groups_is_that_of_the_whole_layer() -> None:
    x, y, weights, bias = random_array(400, 6), random_array(400, 4), random_array(2, 3, 2), np.zeros(2, np.float32)
    y[:, 2:] *= 30
    groups = [solve(x[:, 3 * i : 3 * i + 3], y[:, 2 * i : 2 * i + 2], weights[i], bias, "none") for i in range(2)]
    outputs = np.concatenate([x[300:, :3] @ weights[0], x[300:, 3:] @ weights[1]], axis=1)
    expected = relative_error(outputs, y[300:])
    assert overall_errors(groups) == pytest.approx((expected, expected), rel=1e-4)


def test_very_wide_layers_are_only_rescaled() -> None:
    assert affordable("weights", MOST_COLUMNS) == "weights"
    assert affordable("weights", MOST_COLUMNS + 1) == "statistics"
    assert affordable("none", MOST_COLUMNS + 1) == "none"


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_unfolded_weights_make_a_convolution_a_product(case: Case) -> None:
    g, (x, weight, _) = case.spec, case.data()
    plain = replace(case, activation=NO_ACTIVATION, bias=False)
    columns = [unfolded_weight(weight, g, group) for group in range(g.group)]
    products = np.concatenate([unfold(x, g, group) @ own for group, own in enumerate(columns)], axis=1)
    expected = products.reshape(g.batch, g.out_height, g.out_width, g.out_channels).transpose(0, 3, 1, 2)
    assert_close(run(plain.model("dense"), {"X": x})[0], expected, rtol=1e-4)
    np.testing.assert_array_equal(folded_weight(np.stack(columns), g), weight)


@pytest.mark.parametrize("columns", [1, 383, 1000])
def test_systems_are_solved_block_by_block(columns: int) -> None:
    rows = random_array(2 * columns, columns).astype(np.float64)
    matrix, right = rows.T @ rows + np.eye(columns), random_array(columns, 3).astype(np.float64)
    np.testing.assert_allclose(
        _solved(matrix.copy(), right.copy()), np.linalg.solve(matrix, right), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("exact", [False, True])
def test_a_pull_that_is_less_than_what_is_rounded_off(exact: bool) -> None:
    x = random_array(2000, 1) + np.float32(1e-5) * random_array(2000, 600)
    moments, weight = moments_of(x, random_array(2000, 4)), random_array(600, 4).astype(np.float64)
    ridge = 1e-8
    covariance = moments.covariance()
    pulled = covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    with pytest.raises(np.linalg.LinAlgError):
        _solved(pulled.astype(np.float32), np.zeros((600, 4), np.float32))
    expected = weight + np.linalg.solve(pulled, moments.cross_covariance() - covariance @ weight)
    assert_close(_refitted(moments, weight, ridge, exact)[0], expected, rtol=1e-6)
