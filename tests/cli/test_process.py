"""The command as a process of its own: streams, exit codes, interruption."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest

import reuse_compiler

Process = subprocess.Popen[str]
ROOT = str(Path(reuse_compiler.__file__).parents[1])


SCRIPTS: dict[str, str] = tomllib.loads((Path(ROOT) / "pyproject.toml").read_text())["project"]["scripts"]


def start(*arguments: object, program: str = "reuse-compile", path: str = "", stdout: int = subprocess.PIPE) -> Process:
    """Starts a program as the script that pip makes does, with `path` before everything else that Python searches."""
    module, function = SCRIPTS[program].split(":")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([path, ROOT, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-c", f"from {module} import {function}; {function}()", *map(str, arguments)],
        stdout=stdout,
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


@pytest.mark.parametrize("program", SCRIPTS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_while_the_program_is_loaded(
    tmp_path: Path, program: str, number: signal.Signals, code: int
) -> None:
    """A module in the place of one that is needed sends the signal as soon as it is imported."""
    (tmp_path / "typer.py").write_text(f"import os, time\nos.kill(os.getpid(), {number})\ntime.sleep(60)")
    process = start(program=program, path=str(tmp_path))
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", code)


def test_a_second_interruption_while_python_ends(tmp_path: Path) -> None:
    late = f"import atexit, os; atexit.register(lambda: os.kill(os.getpid(), {signal.SIGINT}))"
    (tmp_path / "sitecustomize.py").write_text(late)
    process = start("--version", path=str(tmp_path))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "") and out.startswith("reuse-compiler ")


def test_nothing_that_takes_long_is_imported_before_signals_are_heeded() -> None:
    modules = {script.partition(":")[0] for script in SCRIPTS.values()}
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in run.stdout.split()}
    assert packages - sys.stdlib_module_names == {"__main__", "reuse_compiler"}


def test_a_package_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError('libm.so: cannot open shared object file')")
    process = start(path=str(tmp_path))
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("", 1) and err.count("\n") == 1
    assert err.startswith("error: the program cannot be loaded (ImportError: libm.so: cannot open")


def test_a_reader_that_leaves_early(model: Path) -> None:
    process = start(model, "--dry-run", "--log-level", "error")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "error: the output was not read to its end" in process.stderr.read()
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_an_output_without_room(model: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(model, "--dry-run", "--log-level", "error", stdout=full.fileno())
    _, err = process.communicate(timeout=60)
    message = "error: the output cannot be written: No space left on device; make room, or write elsewhere\n"
    assert (process.returncode, err) == (1, message)


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_streams_that_are_closed_from_the_start_are_done_without(model: Path, closed: tuple[int, ...]) -> None:
    module, function = SCRIPTS["reuse-compile"].split(":")
    code = f"from {module} import {function}; {function}()"
    run = subprocess.run(
        [sys.executable, "-c", code, model, "--no-verify"],
        cwd=ROOT,
        stderr=None if 2 in closed else subprocess.PIPE,
        preexec_fn=lambda: os.closerange(min(closed), max(closed) + 1),
    )
    assert run.returncode in (0, 3) and "Traceback" not in str(run.stderr)
    assert model.with_name("net.reuse.onnx").exists()
