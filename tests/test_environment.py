"""What a report of a defect begins with: found where there is something, and said where there is nothing."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import onnxruntime
import pytest

import reuse_compiler
from reuse_compiler import environment
from reuse_compiler.environment import env, versions


def test_what_is_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_SOMETHING", "a b")
    found = env()
    assert found.versions["onnxruntime"] == onnxruntime.__version__ and found.versions["operators"][0].isdigit()
    assert found.library == reuse_compiler.library_path() and "CUDA kernels" in found.library_build
    assert found.kernels.isalnum()
    assert "CPUExecutionProvider" in found.providers and "onnxruntime" in found.onnxruntime_packages
    assert found.variables == "REUSE_SOMETHING='a b'"
    values = found.model_dump(exclude={"versions"}).values()
    assert all(values) and not [value for value in values if value.startswith("unknown: ")]
    assert reuse_compiler.env() == found


def test_versions_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_LIBRARY", "/no/such/library")
    assert versions()["operators"] == "missing"
    assert env().library.startswith("unknown: REUSE_LIBRARY names /no/such/library")


def test_whatever_fails_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OSError("no such thing here")

    for place in [
        "platform.platform",
        "os.cpu_count",
        "importlib.metadata.requires",
        "importlib.metadata.version",
        "importlib.metadata.distributions",
        "reuse_compiler.environment.import_onnxruntime",
        "reuse_compiler.environment.load_library",
        "reuse_compiler.environment.library_version",
    ]:
        monkeypatch.setattr(place, fail)
    found = env()
    assert found.platform == found.kernels == found.extras == "unknown: OSError: no such thing here"
    assert set(found.versions.values()) == {"missing", platform.python_version(), reuse_compiler.__version__}


def test_processor_and_gpus_as_the_system_tells_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd sve atomics\nCPU part\t: 0xd40\n")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 5\n")
    monkeypatch.setattr(environment, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(environment, "GPUS", tmp_path)
    found = env()
    assert found.instruction_sets == "asimd sve" and found.gpus == "NVIDIA H100 80GB HBM3" and found.processor


def test_extras_name_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=1.26", "numpy; extra == 'a'", 'no-such-package[x]>=1 ; (python_version > "3") and extra == "a"',
             "onnx>=1.18; extra == 'b'"]  # fmt: skip
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert env().extras == "a without no-such-package; b complete"


def test_the_command_works_without_onnxruntime() -> None:
    program = """
import sys
sys.modules["onnxruntime"] = None
sys.argv = ["reuse-compile", "--env"]
from reuse_compiler.cli.programs import compile_model
compile_model()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["reuse-compiler"] == reuse_compiler.__version__ and lines["providers"].startswith("unknown: onnxrun")
    assert lines["kernels"] == env().kernels
