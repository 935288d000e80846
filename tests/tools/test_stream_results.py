"""The tool that measures streams, on a small network: its clips are streams, and its numbers those of the models."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from models.datasets import RgbImage
from models.preprocessing import Preprocessing
from reuse_compiler.progress import silent
from tests.calibration.networks import conv, relu, weight
from tests.passes.models import model_of, value
from tools import stream_results, streams
from tools.stream_results import (
    BYTES_HOLD,
    BYTES_STREAM,
    CLIPS,
    HOLD,
    STATIC,
    STREAM,
    Clip,
    Settings,
    print_lines,
)
from tools.streams import Network


def network() -> Network:
    nodes = [conv("x", "w1", "c", "first", pads=[1] * 4), relu("c", "r"), conv("r", "w2", "y", "wide", pads=[1] * 4)]
    constants = [weight("w1", 64, 3, 3, 3), weight("w2", 64, 64, 3, 3)]
    x, y = value("x", ["N", 3, "H", "W"]), value("y", ["N", 64, "H", "W"])
    model = model_of(nodes, [x], [y], constants, ir_version=9)
    return Network("small", model, Preprocessing((128.0,) * 3, (64.0,) * 3))


def squares(fit: int, measured: int) -> tuple[Sequence[RgbImage], Sequence[RgbImage]]:
    """A square that moves over plain ones, with noise."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 200, (4, 5, 3)).repeat(8, 0).repeat(8, 1)
    film = (scene + rng.integers(0, 3, (fit + measured, *scene.shape))).astype(np.uint8)
    for index, frame in enumerate(film):
        frame[8:16, index : index + 8] = 255
    return list(film[:fit]), list(film[fit:])


def test_every_form_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path))
    monkeypatch.setitem(CLIPS, "squares", Clip(squares))
    lines = stream_results.measure(network(), "squares", Settings(6, 6, 2, 15.0, "quick", calibrated=True), silent)
    by_form = {line.form: line for line in lines}
    assert list(by_form) == list(Clip(squares).forms)
    assert {line.size for line in lines} == {"40x32"} and all(line.times.median_ms > 0 for line in lines)
    # Sums that are kept change nothing.
    assert by_form[STATIC].psnr == by_form[STREAM].psnr and by_form[BYTES_STREAM].differing == 0
    assert by_form[STREAM].changed is None
    changed = by_form[HOLD].changed
    assert changed is None or changed < 0.5
    stream = io.StringIO()
    print_lines(lines, Console(file=stream, width=200))
    assert all(form in stream.getvalue() for form in by_form)


def test_one_form_with_its_own_hold_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLIPS, "squares", Clip(squares))
    how = Settings(6, 6, 2, 15.0, "quick", calibrated=True, tolerance=6.0, patience=3, forms=(BYTES_HOLD,))
    (line,) = stream_results.measure(network(), "squares", how, silent)
    assert (line.form, line.tolerance, line.patience) == (BYTES_HOLD, 6.0, 3)


def test_a_page_changes_where_it_is_typed_on() -> None:
    before, after = streams.screen(2, 5)
    assert len(before) == 2 and len(after) == 5
    for one, other in pairwise(after):
        rows, columns = np.nonzero((one != other).any(-1))
        assert len(set(rows)) < 22 and len(set(columns)) < 22  # a letter, or a space
    assert (after[0] != after[-1]).any()
