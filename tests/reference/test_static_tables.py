"""Scope static of the reference: against the dense convolution, and against every rounding done one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import numpy_helper

from reuse_compiler.reference.operators import cluster_vectors, hash_vectors
from reuse_compiler.reference.static_tables import int8_entries
from reuse_compiler.reference.vectors import block_weights, neuron_vectors
from reuse_compiler.reuse.activation import NO_ACTIVATION
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from tests.comparison import assert_close
from tests.custom_ops.cases import Array, Case, static_cases
from tests.running import run_reference

quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
CASES = [
    Case(ConvSpec(2, 5, 4, 3, 4, (2, 3), pads=(1, 1, 0, 1)), "channel", 2, "sign", 3, scope="static", spoiled=2),
    Case(ConvSpec(1, 4, 5, 4, 6, (3, 2), (2, 1), group=2), "patch", 5, "learned", 2, scope="static", seed=3),
    Case(ConvSpec(1, 6, 5, 5, 2, (2, 2), dilations=(2, 2), pads=(1, 2, 2, 1)), "channel", 4, "sign", 4, scope="static"),
]


def quantised(case: Case) -> Array:
    """Returns the input of a case of the layout channel with every vector replaced by the centroid of its code."""
    x, given_centroids, blocking = case.data()[0], case.centroids(), case.blocking
    codes = hash_vectors(x, blocking, case.family, case.parameters())
    replaced = np.empty_like(x).transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
    for block in range(blocking.num_blocks):
        group, length = block // blocking.blocks_per_group, blocking.block_length(block)
        start = group * case.spec.group_in_channels + blocking.block_start(block)
        replaced[:, start : start + length] = given_centroids[block, codes[block], :length]
    images = replaced.reshape(len(x), *x.shape[2:], x.shape[1])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@quick
@given(case=static_cases(tables=["float"]))
def test_a_layer_is_the_dense_convolution_of_its_quantised_input(case: Case) -> None:
    case = replace(case, layout="channel", sub_vector_length=min(case.sub_vector_length, case.spec.group_in_channels))
    case = replace(case, spoiled=0)
    dense = run_reference(case.model("dense"), quantised(case))
    for lowering in ("fused", "staged"):
        assert_close(run_reference(case.model(lowering), case.data()[0]), dense, what=f"{lowering}, {case}")


def one_by_one(case: Case) -> Array:
    """Returns the result of a case from NumPy's scalars, each rounding by itself."""
    x, w, bias = case.data()
    blocking, g, centroids = case.blocking, case.spec, case.centroids()
    vectors, panels = neuron_vectors(x, blocking), block_weights(w, blocking)
    codes = hash_vectors(x, blocking, case.family, case.parameters())
    channels, per_group = g.group_out_channels, blocking.blocks_per_group

    def product(vector: Array, block: int, tap: int, channel: int) -> np.float32:
        total = np.float32(0)
        for element, weight in zip(vector, panels[block, :, tap * channels + channel], strict=True):
            total = np.float32(total + np.float32(element * weight))
        return total

    def largest_sum_of(group: int, channel: int) -> float:
        columns = 1 if case.layout == "patch" else g.kernel[1]
        sums = []
        for b in range(group * per_group, (group + 1) * per_group):
            largest = [
                float(max(abs(product(c, b, tap, channel)) for c in centroids[b]))
                for tap in range(blocking.taps_per_block)
            ]
            for row in range(0, len(largest), columns):
                of_row = largest[row : row + columns]
                sums += [sum(of_row[first : first + 3]) for first in range(0, columns, 3)]
        return max(sums)

    def reads(block: int, tap: int, image: int, row: int, column: int) -> int | None:
        """Returns the vector of a block that a tap of an output reads, or None in the padding."""
        if case.layout == "patch":
            return (image * g.out_height + row) * g.out_width + column
        i = row * g.strides[0] - g.pads[0] + tap // g.kernel[1] * g.dilations[0]
        j = column * g.strides[1] - g.pads[1] + tap % g.kernel[1] * g.dilations[1]
        inside = 0 <= i < g.in_height and 0 <= j < g.in_width
        return (image * g.in_height + i) * g.in_width + j if inside else None

    y = np.empty(g.output_shape, np.float32)
    for m in range(g.out_channels):
        group, channel = divmod(m, channels)
        largest = largest_sum_of(group, channel)
        scale, inverse = np.float32(largest / 125), np.float32(125 / largest)
        for image, row, column in np.ndindex(g.batch, g.out_height, g.out_width):
            total, integers, spoiled, whole = np.float32(0), 0, np.float32(0), True
            for block in range(group * per_group, (group + 1) * per_group):
                for tap in range(blocking.taps_per_block):
                    vector = reads(block, tap, image, row, column)
                    if vector is None:
                        continue
                    if not np.isfinite(vectors[block, vector]).all():
                        spoiled, whole = spoiled + product(vectors[block, vector], block, tap, channel), False
                        continue
                    entry = product(centroids[block, codes[block, vector]], block, tap, channel)
                    total = np.float32(total + entry)
                    integers += int(np.rint(np.float32(entry * inverse)))
            if case.table == "int8":
                total = np.float32(np.float32(integers) * scale)
            y[image, m, row, column] = np.float32((total if whole else spoiled) + bias[m])
    return np.maximum(y, np.float32(case.activation.min))


@pytest.mark.parametrize("table", ["float", "int8"])
@pytest.mark.parametrize("case", CASES)
def test_every_rounding_is_the_contract_s(case: Case, table: str) -> None:
    with np.errstate(invalid="ignore"):
        expected = one_by_one(replace(case, table=table))
        actual = run_reference(replace(case, table=table).model("fused"), case.data()[0])
    np.testing.assert_array_equal(actual, expected)
    assert np.isfinite(expected).all() == (case.spoiled == 0)


def outputs_that_read(case: Case, elements: Array) -> Array:
    """Returns which outputs read one of the elements of X: they are counted by a convolution."""
    model = replace(case, bias=False).model("dense")
    weights = next(each for each in model.graph.initializer if each.name == "W")
    weights.CopyFrom(numpy_helper.from_array(np.ones(case.spec.weight_shape, np.float32), "W"))
    return run_reference(model, elements.astype(np.float32)) > 0


@quick
@given(case=static_cases())
def test_what_else_is_in_the_batch_changes_no_bit(case: Case) -> None:
    """Not even a NaN, which spoils the outputs that read it and no others."""
    case = replace(case, activation=NO_ACTIVATION)
    x, model = case.data()[0], case.model("fused")
    with np.errstate(invalid="ignore"):
        together = run_reference(model, x)
        alone = [run_reference(model, image[None]) for image in x]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    read = outputs_that_read(case, ~np.isfinite(x))
    mended = run_reference(model, np.where(np.isfinite(x), x, np.float32(0)))
    np.testing.assert_array_equal(together[~read], mended[~read])
    assert not np.isfinite(together[read]).any()


def test_clusters_are_the_given_ones_and_then_the_vectors_that_are_not_finite() -> None:
    x = np.array([1, np.nan, -2, np.inf, 5, np.nan], np.float32).reshape(1, 1, 1, 6)
    blocking = Blocking(ConvSpec(1, 1, 1, 6, 1, (1, 1)), "channel", 1)
    centroids = np.array([[[-1], [1], [2], [3]]], np.float32)
    codes = np.array([[2, 0, 0, 3, 3, 0]])
    clusters = cluster_vectors(x, codes, blocking, "static", given=centroids)
    np.testing.assert_array_equal(clusters.ids, [[2, 4, 0, 5, 3, 6]])
    np.testing.assert_array_equal(clusters.centroids[0, :, 0], [-1, 1, 2, 3, np.nan, np.inf, np.nan])
    assert clusters.counts.tolist() == [7] and clusters.guarded == 3
    with pytest.raises(IndexError, match="codes must be 0 to 3"):
        cluster_vectors(x, codes + 1, blocking, "static", given=centroids)


def test_entries_by_hand() -> None:
    """The scale is that of all blocks of a channel; halves go to the even neighbour; tiny channels are 0.

    The largest sum is that of the first block's first three taps, 124 + 0.5 + 0.5; its fourth tap is alone.
    """
    blocking = Blocking(ConvSpec(1, 2, 1, 1, 2, (1, 4), pads=(0, 0, 0, 3)), "channel", 1)
    first, second = [124, 1e-36, 0.5, 0, -0.5, 0, 100, 0], [-1.5, 0, 2.5, 0, 0, 0, 3.4, -1e-36]  # (tap, channel)
    entries, scales = int8_entries(np.array([[first], [second]], np.float32), blocking)
    np.testing.assert_array_equal(entries, [[[124, 0, 0, 0, 0, 0, 100, 0]], [[-2, 0, 2, 0, 0, 0, 3, 0]]])
    np.testing.assert_array_equal(scales, [1, 0])


@pytest.mark.parametrize("value", [2.0**121, np.inf, np.nan])
def test_products_without_a_scale_are_refused_with_int8_tables(value: float) -> None:
    case = replace(CASES[2], table="int8")
    model = case.model("fused")
    weights = next(each for each in model.graph.initializer if each.name == "W")
    w = numpy_helper.to_array(weights).copy()
    w[1, 2, 0, 1] = value
    weights.CopyFrom(numpy_helper.from_array(w, "W"))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="use float tables"):
        run_reference(model, case.data()[0])
