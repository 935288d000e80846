"""Counts of operations against the training paper's formulas."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from reuse_compiler.reuse.config import make_settings  # noqa: E402
from reuse_compiler.reuse.geometry import ConvSpec  # noqa: E402
from reuse_compiler.training.conversion import convert  # noqa: E402
from reuse_compiler.training.operations import OperationMeter, training_cost  # noqa: E402
from tests.training.networks import small_network, smooth_images  # noqa: E402

CONV2 = ConvSpec(100, 64, 16, 16, 64, (5, 5), pads=(2, 2, 2, 2))


def test_a_step_costs_what_equations_5_12_and_20_say() -> None:
    settings = make_settings(family="sign", layout="patch", L=20, H=12)
    forward, weight, delta = 12 / 64 + 0.1 + 1 / 20, 0.9 / 20 + 0.1, 0.1
    assert training_cost(settings, CONV2, 0.1) == pytest.approx((forward + weight + delta) / 3)
    assert training_cost(settings, CONV2, 0.1, input_gradient=None) == pytest.approx((forward + weight) / 2)
    exact = training_cost(settings, CONV2, 0.1, input_gradient="straight_through")
    assert exact == pytest.approx((forward + weight + 1.0) / 3)
    reused = 12 / 64 + 0.25 * 0.1 + 1 / 20  # Eq. 6
    assert training_cost(settings, CONV2, 0.1, reuse_rate=0.75) == pytest.approx((reused + weight + delta) / 3)


def test_pixels_are_hashed_once_for_all_taps() -> None:
    settings = make_settings(family="sign", layout="channel", L=16, H=12)
    forward = 12 / (25 * 64) + 0.1 + 1 / 16
    assert training_cost(settings, CONV2, 0.1) == pytest.approx((forward + 0.9 / 16 + 0.1 + 0.1) / 3)


def test_the_meter_adds_up_layers_and_steps() -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    layers = convert(model, x).layers
    meter = OperationMeter(layers, "0")
    model(x)
    model(x)
    ratio = layers["3"].counts.remaining_ratio
    meter.add(2)
    dense = {"0": 2 * 2.0 * 16 * 144 * 75 * 16, "3": 2 * 3.0 * 16 * 36 * 144 * 24}
    assert meter.dense == sum(dense.values())
    assert meter.by_layer["3"] == (ratio, 0.0)
    assert layers["3"].counts.runs == 0
    before = meter.done
    layers["0"].reuse = layers["3"].reuse = False
    model(x)
    meter.add(1)
    assert meter.done - before == pytest.approx(sum(dense.values()) / 2)
    assert 0.0 < meter.saved < 1.0
