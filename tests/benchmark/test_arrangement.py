"""Where labels stand: how many there are, and whether neighbours are alike."""

import numpy as np
import pytest

from reuse_compiler.benchmark.arrangement import Cells, find_cells, pixel_labels
from reuse_compiler.benchmark.case import Order
from reuse_compiler.reference.vectors import neuron_vectors
from reuse_compiler.reuse.geometry import Blocking, ConvSpec

GEOMETRY = ConvSpec(2, 3, 20, 15, 8, (3, 3), pads=(1, 1, 1, 1))
PIXELS = 2 * 20 * 15


def equal_neighbours(labels: np.ndarray) -> float:
    images = labels.reshape(2, 20, 15)
    return float((images[:, :, 1:] == images[:, :, :-1]).mean())


@pytest.mark.parametrize("order", ["local", "random"])
@pytest.mark.parametrize("count", [1, 2, 7, 60, 599, PIXELS])
def test_every_label_occurs_about_equally_often(order: Order, count: int) -> None:
    labels = pixel_labels(np.random.default_rng(count), GEOMETRY, count, order)
    occurrences = np.bincount(labels, minlength=count)
    assert len(labels) == PIXELS and len(occurrences) == count
    assert occurrences.min() >= 1 and occurrences.max() - occurrences.min() <= 1


def test_local_labels_have_equal_neighbours() -> None:
    rng = np.random.default_rng(0)
    local, shuffled = (pixel_labels(rng, GEOMETRY, 60, order) for order in ("local", "random"))
    assert equal_neighbours(local) > 0.5 > 0.1 > equal_neighbours(shuffled)


def test_blocks_are_arranged_differently() -> None:
    rng = np.random.default_rng(0)
    labels = [pixel_labels(rng, GEOMETRY, 20, "local").tobytes() for _ in range(8)]
    assert len(set(labels)) > 1


def windows(cells: Cells, blocking: Blocking) -> float:
    """Distinct neuron vectors per block, counted."""
    labels = cells.labels(blocking.spec)
    g = blocking.spec
    colours = np.random.default_rng(0).standard_normal((labels.max() + 1, g.in_channels)).astype(np.float32)
    vectors = neuron_vectors(colours[labels].transpose(0, 3, 1, 2), blocking)
    return float(np.mean([len(np.unique(block, axis=0)) for block in vectors]))


@pytest.mark.parametrize("order", ["local", "random"])
@pytest.mark.parametrize(
    "spec",
    [
        GEOMETRY,
        ConvSpec(1, 3, 40, 40, 8, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        ConvSpec(1, 4, 24, 24, 8, (2, 2), strides=(2, 2)),
        ConvSpec(1, 2, 30, 20, 8, (3, 2), dilations=(2, 1)),
    ],
)
@pytest.mark.parametrize("length", [5, 8])
def test_cells_give_about_the_windows_that_are_asked(spec: ConvSpec, order: Order, length: int) -> None:
    blocking = Blocking(spec, "patch", length)
    count = round(0.3 * spec.rows)
    assert 0.75 * count <= windows(find_cells(blocking, count, order), blocking) <= 1.25 * count


def test_cells_are_flat_or_textured() -> None:
    flat, texture = (Cells(5, 3, order).labels(GEOMETRY) for order in ("local", "random"))
    assert len(np.unique(flat[0, :5, :3])) == 1 and len(np.unique(flat)) == 2 * 4 * 5
    assert len(np.unique(texture[0, :5, :3])) == 15 == len(np.unique(texture))
