"""Pictures of clusters: of the right image and size, whatever the input."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reuse_compiler.calibration.clusters import Clusterer
from reuse_compiler.calibration.deploy import Deployer
from reuse_compiler.calibration.pictures import LARGEST_SIDE, cluster_pictures
from reuse_compiler.calibration.report import ClusterPicture
from tests.calibration.networks import (
    EFFORT,
    conv,
    feeds_of,
    network,
    network_1d,
    settings_for,
    weight,
    work_of,
)
from tests.passes.models import model_of, value


def pictures_of(model: Any, feeds: list[dict[str, NDArray[Any]]]) -> list[ClusterPicture]:
    """All layers have reuse; the first run is held out."""
    work = work_of(model, feeds[0])
    plan = Deployer(work, feeds, EFFORT, 0).deploy({own.name: settings_for(own) for own in work.layers}, "none").plan
    made = cluster_pictures(work, plan, feeds[0])
    first = work.layers[0]
    ids = Clusterer(plan[first.name]).ids_and_centroids(feeds[0][first.input])[0][0]
    shown = np.array(made[0].ids)
    step = -(-max(first.spec.in_height, first.spec.in_width) // LARGEST_SIDE)
    whole = ids[: first.spec.in_height * first.spec.in_width].reshape(first.spec.in_height, -1)
    np.testing.assert_array_equal(shown, whole[::step, ::step])
    return made


def test_an_image_stands_beside_its_clusters() -> None:
    feeds = feeds_of(network())
    first, grouped, last = pictures_of(network(), feeds)
    assert (first.layer, grouped.layer, last.layer) == ("first", "grouped", "last")
    assert np.shape(grouped.ids) == np.shape(last.ids) == (4, 4)
    image = np.array(first.image)
    assert image.shape == (8, 8, 3) and image.min() == 0 and image.max() == 255
    order = feeds[0]["x"][0].transpose(1, 2, 0).ravel().argsort()
    assert (np.diff(image.ravel()[order]) >= 0).all()


def test_layers_of_one_dimension_are_a_line() -> None:
    first, _ = pictures_of(network_1d(), feeds_of(network_1d()))
    assert np.shape(first.ids) == (1, 32) and first.image is None


def test_large_pictures_are_thinned_out() -> None:
    model = model_of(
        [conv("x", "w", "y", "conv")], [value("x", ["N", 1, 8, 400])], [value("y", None)], [weight("w", 4, 1, 1, 1)]
    )
    (picture,) = pictures_of(model, feeds_of(model, 1, batch=1))
    assert np.array(picture.ids).shape == (3, 134) and np.array(picture.image).shape == (3, 134, 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite(bad: float) -> None:
    feeds = feeds_of(network())
    feeds[0]["x"][0, 1, 2, 3] = bad
    image = np.array(pictures_of(network(), feeds)[0].image)
    assert image.min() >= 0 and image.max() <= 255 and len(np.unique(image)) > 50
