"""What holding inputs costs, in a compilation: the report's numbers are those of the reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import reuse_compiler
from reuse_compiler.options import CompileOptions
from reuse_compiler.reference.hold import hold
from reuse_compiler.reuse.config import HoldSettings, ReuseConfig
from reuse_compiler.verification.compare import Difference
from tests.passes.models import conv_model

MODEL = conv_model(weights=(8, 3, 3, 3), shape=("N", 3, 24, 32))
EXACT: dict[str, Any] = {"family": "exact", "force": True}
SETTINGS: dict[str, Any] = {"opening": 0, "dilation": 1, "patience": 2}


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = rng.uniform(0, 255, (1, 3, 24, 32)) + rng.uniform(-4, 4, (6, 3, 24, 32))
    for index, frame in enumerate(frames):
        frame[:, 4:12, 4 * index : 4 * index + 4] = 300
    return frames.astype(np.float32)


def test_frames_are_run_in_order(frames: np.ndarray) -> None:
    held_as = {f"hold_{name}": value for name, value in SETTINGS.items()}
    result = reuse_compiler.compile(MODEL, hold=(9.0,), verify_data=frames, **held_as, **EXACT)
    held, psnr, changed = None, Difference(), 0
    for index, frame in enumerate(frames[:, None]):
        held, new = hold(frame, held, [9.0], **SETTINGS)
        psnr.add(frame, held.image)
        changed += int(new.sum()) if index else 0
    report = result.report.hold
    assert report is not None and report.model_dump(include={"tolerances", *SETTINGS}) == {
        "tolerances": (9,),
        **SETTINGS,
    }
    assert (report.inputs, report.frames) == (["x"], 6)
    assert report.changed == changed / (6 * 24 * 32) and report.input_psnr == pytest.approx(psnr.psnr)
    assert report.output_psnr is not None and 20 < report.output_psnr < math.inf
    # Held frames are nobody's error but the Hold's.
    assert result.report.rel_error is not None and result.report.rel_error < 1e-5


def test_layers_are_chosen_on_held_frames() -> None:
    noise = np.random.default_rng(0).uniform(-4, 4, (3, 3, 24, 32))
    frames = (100 + noise * np.array([0, 1, 1])[:, None, None, None]).astype(np.float32)
    noisy = reuse_compiler.compile(MODEL, verify_data=frames, **EXACT).report
    still = reuse_compiler.compile(MODEL, verify_data=frames, hold=(9.0,), **EXACT).report
    of_noise, of_none = noisy.layers[0].r_c, still.layers[0].r_c
    assert of_noise is not None and of_none is not None and of_none < 0.01 < 0.5 < of_noise
    assert still.verified_on == "3 runs of x [1, 3, 24, 32] that are held"
    # What the noise costs is told of the frames as they are.
    assert still.hold is not None and still.hold.changed == 0
    assert still.hold.input_psnr is not None and still.hold.input_psnr < math.inf


def test_without_frames_nothing_is_known(frames: np.ndarray) -> None:
    cases: tuple[dict[str, Any], ...] = ({}, {"verify_data": frames[:1]}, {"verify_data": frames, "verify": False})
    for given in cases:
        result = reuse_compiler.compile(MODEL, hold=(9.0,), shapes={"x": (1, 3, 24, 32)}, **EXACT, **given)
        assert result.report.hold is not None and result.report.hold.frames is None
        assert result.model.graph.node[0].op_type == "Hold"


def test_a_configuration_says_it_unless_the_option_does(tmp_path: Path) -> None:
    layers = {"conv": {"family": "exact", "layout": "channel", "L": 3, "H": 1}}
    config = ReuseConfig.model_validate({"layers": layers, "hold": HoldSettings(tolerances=(9.0, 8.0, 7.0), opening=3)})
    (tmp_path / "net.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    onnx.save(MODEL, tmp_path / "net.onnx")
    for given, tolerances in (({}, (9, 8, 7)), ({"hold": (5,)}, (5,))):
        options: dict[str, Any] = {"config": tmp_path / "net.json", "shapes": {"x": (1, 3, 24, 32)}, **given}
        report = reuse_compiler.compile(tmp_path / "net.onnx", verify=False, **options).report
        assert report.hold is not None and report.options["stream"]
        assert (report.hold.tolerances, report.hold.opening) == (tolerances, 1 if given else 3)


def test_what_is_held_is_a_stream() -> None:
    assert CompileOptions(hold=(1.0,)).stream and not CompileOptions().stream
    for wrong in ((), (-1.0,)):
        with pytest.raises(ValueError, match="a tolerance is a number from 0 on"):
            CompileOptions(hold=wrong)


def test_where_nothing_is_rewritten_nothing_is_held(caplog: pytest.LogCaptureFixture) -> None:
    result = reuse_compiler.compile(MODEL, hold=(9.0,), layers="none")
    assert result.report.hold is None and result.model is MODEL
    assert "--hold is left out: no convolution uses reuse" in caplog.text
