"""Pictures in the page: what goes in comes out, and clusters can be told apart."""

import base64
import io

import numpy as np
from PIL import Image

from reuse_compiler.reports.pixels import cluster_colours, ids_picture, png_url


def test_a_picture_is_read_back_by_pillow() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 3, 3)).astype(np.uint8)
    kind, _, data = png_url(picture).partition(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), picture)


def test_pixels_of_a_cluster_share_a_colour_that_depends_on_the_id_alone() -> None:
    picture = ids_picture([[0, 1, 1], [2, 0, 7]])
    assert picture.shape == (2, 3, 3)
    np.testing.assert_array_equal(picture[0, 1], picture[0, 2])
    np.testing.assert_array_equal(picture[1, 2], cluster_colours(100)[7])


def test_neighbouring_ids_differ_clearly() -> None:
    colours = cluster_colours(200).astype(int)
    for step in range(1, 6):
        assert np.abs(colours[step:] - colours[:-step]).max(axis=1).min() > 30
    assert len(np.unique(colours, axis=0)) == 200
