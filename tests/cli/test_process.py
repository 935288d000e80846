"""The command as a process of its own: streams, exit codes, interruption."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import reuse_compiler

ROOT = str(Path(reuse_compiler.__file__).parents[1])


def start(*arguments: object) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", "reuse_compiler.cli.compile", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    """Undoes what a shell does to the children of a job in the background, which these tests may run in."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments: object) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_run_from_the_shell(model: Path) -> None:
    code, out, err = run(model, "--force", "--shape", "x:1,3,12,12", "--family", "exact")
    assert code == 0, err
    assert out.startswith("layer") and "3 of 3 convolutions use reuse" in out
    assert all(line.startswith("warning: the compiled model is slower") for line in err.splitlines()), err
    assert "\x1b" not in out + err, "no colours, no progress bar outside of a terminal"
    assert files(model.parent) == ["net.onnx", "net.reuse.onnx"]


def test_exit_codes(model: Path) -> None:
    assert run(model, "--layers", "none", "--log-level", "error")[0] == 3
    code, out, err = run(model)
    assert (code, out, err.count("\n")) == (1, "", 1) and err.startswith("error: ")
    code, out, err = run(model, "-H", "65")
    assert (code, out) == (2, "") and err.startswith("error: ") and err.endswith("(see --help)\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_leaves_nothing_behind(
    tmp_path: Path, network: onnx.ModelProto, number: signal.Signals, code: int
) -> None:
    """Interrupts the verification of a model whose external data makes temporary files necessary."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    model, data = tmp_path / "in" / "net.onnx", tmp_path / "d.npy"
    onnx.save(copy, model, save_as_external_data=True, location="net.bin", size_threshold=0)
    np.save(data, np.zeros((20_000, 3, 12, 12), np.float32))  # takes longer than the test waits
    output = tmp_path / "out" / "net.onnx"
    process = start(model, "-o", output, "--force", "--verify-data", data, "--log-level", "info")
    assert process.stderr is not None
    for line in process.stderr:
        if "verifying on 20000 runs of" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err and out == ""
    assert files(tmp_path / "out") == [] and files(tmp_path / "in") == ["net.bin", "net.onnx"]


def test_a_reader_that_leaves_early(model: Path) -> None:
    process = start(model, "--dry-run", "--force")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=60)
