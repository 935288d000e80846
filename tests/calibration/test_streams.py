"""Calibrations of a stream: frames stay in order, and inputs are held as much as the accuracy budget allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import reuse_compiler
from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.hold import STEPS
from reuse_compiler.calibration.metrics import make_metric, model_outputs
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.calibration.samples import from_reader, split
from reuse_compiler.calibration.target import Target
from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.inputs import model_inputs
from tests.calibration.networks import conv, relu, weight
from tests.passes.models import model_of, run, tensor, value

FRAMES = 12
CHOSEN: dict[str, Any] = {"scope": "static", "budget": "quick", "objective": "operations", "stream": True}
"""By operations: times differ from run to run."""


def network() -> onnx.ModelProto:
    nodes = [
        conv("x", "w1", "c", "wide", "b1", pads=[1] * 4),
        relu("c", "r"),
        conv("r", "w2", "y", "deep", pads=[1] * 4),
    ]
    bias = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    constants = [weight("w1", 64, 8, 3, 3), tensor("b1", bias), weight("w2", 64, 64, 3, 3)]
    return model_of(nodes, [value("x", ["N", 8, 12, 16])], [value("y", ["N", 64, 12, 16])], constants)


def frames(noise: float = 0.02) -> np.ndarray:
    """A still scene of few colours with noise, and a square that moves."""
    rng = np.random.default_rng(0)
    scene = rng.standard_normal((4, 8))[rng.integers(0, 4, (3, 4))].repeat(4, 0).repeat(4, 1).transpose(2, 0, 1)
    film = scene + noise * rng.standard_normal((FRAMES, *scene.shape))
    for index, frame in enumerate(film):
        frame[:, 4:8, index : index + 4] = 2.0
    return film.astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path_factory.mktemp("cache")))


def calibrate(folder: Path, film: np.ndarray, **options: Any) -> CalibrationReport:
    onnx.save(network(), folder / "net.onnx")
    reader = ({"x": frame[None]} for frame in film)
    return calibrate_file(folder / "net.onnx", reader, folder / "net.json", CalibrationOptions(**CHOSEN, **options))


def test_the_compiled_stream_does_what_the_report_says(tmp_path: Path) -> None:
    film = frames()
    found = calibrate(tmp_path, film, metric="psnr", at_least=22.0)
    assert found.check is not None and found.check.within_budget and found.hold is not None
    (tolerance,) = found.hold.tolerances
    assert tolerance > 0.05  # the noise fits
    config = ReuseConfig.load(tmp_path / "net.json")
    assert config.stream and config.hold == found.hold
    options: dict[str, Any] = {"config": tmp_path / "net.json", "verify": False}
    result = reuse_compiler.compile(tmp_path / "net.onnx", shapes={"x": (1, 8, 12, 16)}, **options)
    assert result.report.hold is not None and result.report.hold.tolerances == (tolerance,)
    assert any(layer.incremental for layer in result.report.layers)
    session, difference = result.session(), Difference()
    for index, frame in enumerate(film[:, None]):
        y = session.run(None, {"x": frame})[0]
        if index >= FRAMES - found.check.samples:
            difference.add(run(network(), {"x": frame})[0], y)
    assert difference.psnr == pytest.approx(found.check.value, abs=0.01)


def test_half_of_the_budget_is_for_the_inputs_and_then_what_is_left(tmp_path: Path) -> None:
    found = calibrate(tmp_path, frames(), metric="psnr", at_least=22.0)
    first = [trial for trial in found.trials if not trial.layers]
    assert {trial.accepted for trial in first} <= {trial.value >= 22 + 10 * np.log10(2) for trial in first}
    span = float(np.ptp(frames()[:4]))
    kept = max((trial.tolerance or 0.0 for trial in first if trial.accepted), default=0.0)
    for trial in found.trials:
        assert trial.tolerance is None or np.isclose(np.array(STEPS) / 255 * span, trial.tolerance, rtol=0.2).any()
        if trial.layers:
            assert (trial.tolerance or 0.0) >= kept
    assert found.hold is not None and found.hold.tolerances[0] >= kept


def test_where_the_budget_has_no_room_nothing_is_held(tmp_path: Path) -> None:
    found = calibrate(tmp_path, frames(), metric="psnr", at_least=90.0)
    assert found.hold is None
    config = ReuseConfig.load(tmp_path / "net.json")
    assert config.stream and config.hold is None


def test_frames_stay_in_order() -> None:
    samples = from_reader(({"x": frame[None]} for frame in frames()), model_inputs(network()))
    parts = split(samples, 0.3, 0, in_order=True)
    numbers = [
        [int(np.argmin([np.abs(feed["x"][0] - f).max() for f in frames()])) for feed, _ in part] for part in parts
    ]
    assert numbers == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize(
    ("metric", "wish", "original", "value"),
    [
        ("psnr", {"at_least": 30.0}, np.inf, 33.01),
        ("cosine", {"max_drop": 0.1}, 1.0, 0.95),
        ("mse", {"at_least": 4.0}, 0.0, 2.0),
    ],
)
def test_half_a_budget(metric: str, wish: dict[str, Any], original: float, value: float) -> None:
    target = Target.make(make_metric(metric, model_outputs(network()), False), original, **wish)
    assert target.halved(original).value == pytest.approx(value, abs=0.01)


def test_what_cannot_be_a_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--stream is for the CPU"):
        calibrate(tmp_path, frames(), metric="psnr", at_least=22.0, provider="cuda")
