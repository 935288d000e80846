"""The exit code of the same mistake in every command: 2 for what contradicts itself, 1 for what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from reuse_compiler.cli import bench, calibrate
from reuse_compiler.cli import compile as compile_command

FAILURE, USAGE = 1, 2
COMPILE, CALIBRATE = (compile_command.app, "MODEL --verify-data DATA"), (calibrate.app, "MODEL --data DATA")
AT_ONCE = compile_command.app, "MODEL --calibration-data DATA"
BENCH = bench.app, "model MODEL MODEL --data DATA"
Command = tuple[typer.Typer, str]

EVERY, WRITING = (COMPILE, AT_ONCE, CALIBRATE, BENCH), (COMPILE, AT_ONCE, CALIBRATE)


def outcome(command: Command, folder: Path, flags: str = "", **changes: str) -> tuple[int, str]:
    """Runs a command in a folder, with its model and data under other names if wanted."""
    app, words = command
    for name, value in ({"MODEL": "net.onnx", "DATA": "d.npy"} | changes).items():
        words = words.replace(name, value)
    result = CliRunner().invoke(app, [*words.split(), *flags.split()])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.exit_code, result.stderr


@pytest.fixture
def folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model and data for it in the current folder."""
    np.save(model.with_name("d.npy"), np.zeros((3, 3, 12, 12), np.float32))
    monkeypatch.chdir(model.parent)
    return model.parent


@pytest.mark.parametrize("command", EVERY)
def test_files_that_are_missing_or_damaged_are_failures(folder: Path, command: Command) -> None:
    (folder / "broken").write_bytes(b"\xff no file of ours")
    (folder / "broken.npy").write_bytes(b"no array")
    names = ("missing", "broken", "wide")
    np.save("wide.npy", np.zeros((3, 3, 12, 13), np.float32))
    for changes in ({"MODEL": "missing.onnx"}, {"MODEL": "broken"}, *({"DATA": f"{name}.npy"} for name in names)):
        assert outcome(command, folder, **changes)[0] == FAILURE


@pytest.mark.parametrize("command", EVERY)
def test_flags_that_make_no_sense_are_wrong_usage(folder: Path, command: Command) -> None:
    for flags in ("--threads 0", "--no-such-flag", "--shape x:0", "--shape y:1,3,12,12", "--shape x:1,3,12"):
        assert outcome(command, folder, flags)[0] == USAGE, flags


@pytest.mark.parametrize("command", WRITING)
def test_a_result_that_would_replace_what_is_read_is_wrong_usage(folder: Path, command: Command) -> None:
    for place in ("net.onnx", "d.npy"):
        code, message = outcome(command, folder, f"-o {place} --overwrite")
        assert code == USAGE, message


@pytest.mark.parametrize("command", WRITING)
def test_a_place_that_is_taken_or_missing_is_a_failure(folder: Path, command: Command) -> None:
    (folder / "taken").touch()
    for place in ("taken", "missing/out", "."):
        code, message = outcome(command, folder, f"-o {place}")
        assert code == FAILURE, message


@pytest.mark.parametrize("command", [AT_ONCE, CALIBRATE])
def test_a_budget_that_cannot_be_had_is_wrong_usage(folder: Path, command: Command) -> None:
    for flags in ("--metric accuracy", "--metric top1", "--metric psnr", "--at-least 2", "--max-drop -1", "--layers ("):
        assert outcome(command, folder, flags)[0] == USAGE, flags
