"""Figures and pictures in a page: what goes in comes out, text stays text, and clusters can be told apart."""

import base64
import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from reuse_compiler.reports.calibration_figures import (
    cluster_images,
    curve_figures,
    curve_keys,
    reconstruction_figure,
    shares,
    speed_figure,
    times_figure,
)
from reuse_compiler.reports.figures import Picture, cluster_colours, draw, make_logarithmic, pixels
from tests.reports.calibration_sample import layer, measurement, picture, sample, single

HOSTILE = "$x^{$ <b>&amp;"


def decoded(picture: Picture, kind: str) -> bytes:
    head, _, data = picture.url.partition(",")
    assert head == f"data:image/{kind};base64"
    return base64.b64decode(data)


def texts(picture: Picture | None) -> list[str]:
    """Returns the texts of a drawing."""
    assert picture is not None
    root = ElementTree.fromstring(decoded(picture, "svg+xml"))
    return ["".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("}text")]


def test_a_picture_is_read_back_by_pillow() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 3, 3)).astype(np.uint8)
    image = Image.open(io.BytesIO(decoded(pixels(array, "noise"), "png")))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), array)


def test_pixels_of_a_cluster_share_a_colour_that_depends_on_the_id_alone() -> None:
    _, shown = cluster_images(picture("conv", 20, 9))
    colours = np.asarray(Image.open(io.BytesIO(decoded(shown, "png"))))
    ids = np.array(picture("conv", 20, 9).ids)
    np.testing.assert_array_equal(colours, cluster_colours(100)[ids])


def test_neighbouring_ids_differ_clearly() -> None:
    colours = cluster_colours(200).astype(int)
    for step in range(1, 6):
        assert np.abs(colours[step:] - colours[:-step]).max(axis=1).min() > 30
    assert len(np.unique(colours, axis=0)) == 200


def test_speed_against_the_metric() -> None:
    shown = texts(speed_figure(sample(metric=HOSTILE)))
    assert {HOSTILE, "budget", "kept", "not kept", "chosen", "original", "1×"} <= set(shown)
    one = texts(speed_figure(single()))
    assert "mse (less is better)" in one and "kept" not in one, "what does not occur has no entry in the legend"


def test_times_have_both_bars() -> None:
    assert {"Dense", "Reuse", "ms"} <= set(texts(times_figure(shares(sample().layers))))


def test_curves_of_layers_and_their_legend() -> None:
    layers = [layer(0), layer(1), layer(2)]
    drawn = curve_figures(layers)
    assert [shown.name for shown, _ in drawn] == ["slice1.3", "slice1.7"], "the first one was not measured"
    assert {"remaining ratio r_c", "relative error", "0.1"} <= set(texts(drawn[0][1]))
    words = [key.words for key in curve_keys(layers)]
    assert words == ["L=4", "L=8", "L=16", "L=32", "float tables", "int8 tables"]
    mixed = layer(1).model_copy(
        update={"measurements": [measurement(4, 6, 10.0), measurement(8, 6, 10.0, family="sign", layout="patch")]}
    )
    assert [key.words for key in curve_keys([mixed])] == ["L=4", "L=8", "learned", "sign", "channel", "patch"]


def test_reconstruction_numbers_the_layers() -> None:
    layers = [layer(1), layer(2).model_copy(update={"error_as_is": None}), layer(3)]
    assert {"1", "3", "before", "after"} <= set(shown := texts(reconstruction_figure(layers))) and "2" not in shown
    assert reconstruction_figure(layers[1:2]) is None


@pytest.mark.parametrize("values", [[0.1], [0.02, 0.03], [0.0004, 0.9], [1e-7, 1.0]])
def test_a_logarithmic_axis_shows_all_values_and_labels_two_numbers_at_least(values: list[float]) -> None:
    limits: list[float] = []
    ticks: list[float] = []

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        make_logarithmic(axes, "y", values)
        limits.extend(axes.get_ylim())
        ticks.extend(tick for tick in axes.get_yticks() if limits[0] <= tick <= limits[1])

    labels = [label.replace("−", "-") for label in texts(draw(300, 200, paint, "an axis"))]
    assert limits[0] < min(values) and max(values) < limits[1]
    assert len(ticks) >= 2 and {f"{tick:g}" for tick in ticks} <= set(labels)
