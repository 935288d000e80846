"""The accuracy budget: targets from drops and absolute values, and wishes that cannot be had."""

import math
from typing import Any

import numpy as np
import pytest

from reuse_compiler.calibration.metrics import Metric, OutputInfo, Target, check_wish, make_metric
from reuse_compiler.calibration.report import Flips
from reuse_compiler.errors import ConfigError


def metric(name: str) -> Metric:
    return make_metric(name, [OutputInfo("y", ("N", 10), np.dtype(np.float32))], has_labels=True)


def test_the_default_drop() -> None:
    target = Target.make(metric("top1"), 0.8458)
    assert target.value == pytest.approx(0.8453)
    assert target.accepts(0.8458 - 0.0005) and target.accepts(0.9) and not target.accepts(0.8452)
    assert not target.accepts(math.nan)


def test_drops_of_metrics_of_which_less_is_better() -> None:
    target = Target.make(metric("kl"), 0.0, max_drop=0.01)
    assert target.value == 0.01
    assert target.accepts(0.01) and target.accepts(0.0) and not target.accepts(0.011) and not target.accepts(math.inf)


def test_few_rows_gained_by_chance_do_not_make_up_for_lost_ones() -> None:
    target = Target.make(metric("top1"), 0.8, max_drop=0.01)
    few, many = Flips(rows=50, lost=2, gained=2), Flips(rows=200, lost=8, gained=8)
    assert target.is_below_a_row(few) and not target.is_below_a_row(many)
    assert target.accepts(0.8, many) and not target.accepts(0.8, few)
    assert target.accepts(0.82, Flips(rows=50, lost=0, gained=1))


def test_no_drop_at_all() -> None:
    assert Target.make(metric("agreement"), 1.0, max_drop=0.0).value == 1.0


def test_absolute_values() -> None:
    psnr = Target.make(metric("psnr"), math.inf, at_least=35.0)
    assert psnr.value == 35 and psnr.accepts(35.0) and psnr.accepts(math.inf) and not psnr.accepts(34.9)
    assert not psnr.accepts(-math.inf)
    mse = Target.make(metric("mse"), 0.0, at_least=0.1)
    assert mse.accepts(0.05) and not mse.accepts(0.2)


@pytest.mark.parametrize(
    ("name", "max_drop", "at_least", "message"),
    [
        ("top1", 0.1, 0.5, "give one of them"),
        ("top1", -0.1, None, "--max-drop must not be negative, as -0.1 is"),
        ("psnr", None, None, "psnr has no value of the original to drop from: give --at-least, as in"),
        ("psnr", 0.1, None, "give --at-least, as in"),
        ("top1", None, 1.5, "--at-least 1.5 cannot be had: no model has more than 1 of the metric top1"),
        ("agreement", None, 95.0, "no model has more than 1 of the metric agreement"),
        ("kl", None, -0.1, "no model has less than 0 of the metric kl"),
    ],
)
def test_wishes_that_make_no_sense(name: str, max_drop: float | None, at_least: float | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_wish(metric(name), max_drop, at_least)


def test_a_few_hundred_rows_show_what_will_not_come_up_to_the_target() -> None:
    target = Target.make(metric("top1"), 0.8, max_drop=0.01)
    assert target.is_out_of_reach(Flips(rows=400, lost=60, gained=10))  # 0.125 +- 0.02
    assert not target.is_out_of_reach(Flips(rows=400, lost=30, gained=10))  # 0.05 +- 0.016: chance may still be
    assert not target.is_out_of_reach(Flips(rows=200, lost=30, gained=5))  # too few to tell
    assert not target.is_out_of_reach(Flips(rows=400, lost=10, gained=60))


def test_relative_drops_are_shares_of_the_original_s_value() -> None:
    target = Target.make(metric("top1"), 0.8, max_drop=0.01, drop_type="relative")
    assert target.value == pytest.approx(0.792) and target.allowed_drop == pytest.approx(0.008)
    assert Target.make(metric("top1"), 0.8, max_drop=0.01, drop_type="absolute").value == pytest.approx(0.79)
    with pytest.raises(ConfigError, match="mse is 0, of which there is no share; give --drop-type absolute"):
        Target.make(metric("mse"), 0.0, max_drop=0.01, drop_type="relative")
    with pytest.raises(ConfigError, match="--drop-type is about --max-drop, and --at-least is given"):
        check_wish(metric("top1"), None, 0.5, "absolute")


def test_what_the_original_does_not_reach() -> None:
    check_wish(metric("top1"), None, 0.9)
    with pytest.raises(ConfigError, match=r"0\.9 cannot be had: the original model itself has top1 0\.85 on"):
        Target.make(metric("top1"), 0.85, at_least=0.9)


@pytest.mark.parametrize(
    ("name", "wish", "value", "spent"),
    [
        ("top1", {"max_drop": 0.01}, 0.8, 0.0),
        ("top1", {"max_drop": 0.01}, 0.795, 0.5),
        ("top1", {"max_drop": 0.01}, 0.81, -1.0),
        ("top1", {"max_drop": 0.0}, 0.8, math.nan),
        ("top1", {"at_least": 0.75}, 0.7, 2.0),
        ("psnr", {"at_least": 35.0}, 35.0, 1.0),
        ("psnr", {"at_least": 35.0}, 55.0, 0.1),
    ],
)
def test_how_much_of_the_budget_is_spent(name: str, wish: dict[str, Any], value: float, spent: float) -> None:
    original = math.inf if name == "psnr" else 0.8
    assert Target.make(metric(name), original, **wish).spent(value) == pytest.approx(spent, nan_ok=True)
