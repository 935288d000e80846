"""The command `reuse-calibrate` up to where the calibration starts: help, flags, batch sizes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import Result

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.cli.calibrate import app
from tests.running import run_command

Run = Callable[..., Result]
Calibrate = Callable[..., Result]
USAGE = 2


@pytest.fixture
def calibrate() -> Calibrate:
    """Runs `reuse-calibrate` with the given arguments."""
    return partial(run_command, app)


def assert_refused(result: Result, message: str) -> None:
    assert result.exit_code == USAGE, (result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], result.stderr
    assert result.stdout == ""


def test_help_teaches(calibrate: Calibrate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = calibrate("--help")
    assert result.exit_code == 0
    flags = "--data --labels --metric --max-drop --at-least --objective --strategy --reconstruct --threads --family -o"
    flags += " --scope --budget --layers --exclude --batch --shape --resume --holdout --seed --report --overwrite"
    flags += " --table-memory --log-level --version file.py[:function] iou[:threshold,channel]"
    assert [flag for flag in flags.split() if flag not in result.stdout] == []
    for words in ("More examples", "Accuracy budget", "Exit codes", "reuse-compile net.onnx --config net.reuse.json"):
        assert words in result.stdout


def test_defaults_in_the_help_are_those_of_the_options(calibrate: Calibrate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    lines = calibrate("--help").stdout.splitlines()
    defaults = CalibrationOptions()
    for name in ("objective", "strategy", "reconstruct", "family", "scope", "budget", "holdout", "threads", "seed"):
        [line] = [line for line in lines if f"--{name} " in line and line.startswith("│")]
        assert f"[default: {getattr(defaults, name)}]" in line


def test_versions(calibrate: Calibrate) -> None:
    result = calibrate("--version")
    assert result.exit_code == 0 and "reuse-compiler " in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-drop", "-1"], "--max-drop: "),
        (["--max-drop", "nan"], "--max-drop: "),
        (["--max-drop", "little"], "--max-drop"),
        (["--holdout", "0"], "--holdout: "),
        (["--holdout", "1"], "--holdout: "),
        (["--threads", "0"], "--threads"),
        (["--provider", "tpu"], "--provider"),
        (["--seed", "-1"], "--seed"),
        (["--family", "kmeans"], "--family"),
        (["--scope", "session"], "--scope"),
        (["--objective", "energy"], "--objective"),
        (["--strategy", "guess"], "--strategy"),
        (["--reconstruct", "all"], "--reconstruct"),
        (["--budget", "none"], "--budget"),
        (["--layers", "("], "--layers: '(' is not a regular expression"),
        (["--exclude", "*"], "--exclude: '*' is not a regular expression"),
        (["--shape", "1,3,12,12"], "is not NAME:SIZES"),
        (["--batch", "0"], "--batch"),
        (["--batch", "4", "--shape", "x:2,3,12,12"], "--batch 4 and --shape, which says 2, disagree"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_wrong_flags(calibrate: Calibrate, model: Path, flags: list[str], message: str) -> None:
    assert_refused(calibrate(model, "--data", "d.npz", *flags), message)


def test_model_and_data_are_needed(calibrate: Calibrate, model: Path) -> None:
    assert_refused(calibrate(model), "--data")
    assert_refused(calibrate("--data", "d.npz"), "MODEL")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labels", "l.npy"], "--labels cannot be used without --calibration-data"),
        (["--max-drop", "0.1", "--labels", "l.npy"], "--labels and --max-drop cannot be used without"),
        (["--metric", "kl", "--at-least", "1"], "--metric and --at-least cannot be used without --calibration-data"),
        (["--max-drop", "-1"], "--max-drop: "),
        (["--calibration-data", "d.npz", "--dry-run"], "which --dry-run does not"),
        (["--calibration-data", "d.npz", "--report", "net.reuse.json"], "would replace the configuration"),
    ],
)
def test_calibration_flags_of_reuse_compile(
    run: Run, model: Path, flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    assert_refused(run(model.name, *flags), message)
    assert [file.name for file in model.parent.iterdir()] == ["net.onnx"]
