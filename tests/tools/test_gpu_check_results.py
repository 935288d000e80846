"""The GPU check's measurements are kept whatever happens, and go on after a crash with what is left."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.gpu_check import again
from tools.gpu_check.report import read_lines
from tools.gpu_check.results import GivingUpError, LostError, Results

LOST_GPU = "CUDA failure 700: an illegal memory access was encountered"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layers.jsonl"


def fail(message: str) -> dict[str, Any]:
    raise RuntimeError(message)


def test_results_survive_failures_and_a_line_that_was_cut_off(path: Path) -> None:
    results = Results(path, seconds=1000)
    results.attempt({"layer": "a", "batch": 1}, lambda: fail("no memory"))
    assert results.failures == 1
    results.attempt({"layer": "b", "batch": 1}, lambda: {"speedup": 2.0, "stages_ms": {"hash": 1.0}})
    Results(path, seconds=-1).attempt({"layer": "c", "batch": 1}, lambda: {"speedup": 2.0})
    with path.open("a") as stream:
        stream.write('{"layer": "d", "ba')
    assert [line.get("failed") or line.get("skipped") for line in read_lines(path)] == [
        "RuntimeError: no memory",
        None,
        "no time left",
    ]
    assert read_lines(path.with_name("absent")) == [] and [each.name for each in path.parent.iterdir()] == [path.name]
    later = Results(path, seconds=1000)
    assert later.failures == 1 and later.has({"layer": "b", "batch": 1}) and later.has({"layer": "a"})
    assert not later.has({"layer": "b", "batch": 1, "element": "float16"}) and not later.has({"layer": "d"})


def test_what_cannot_succeed_is_not_tried(path: Path) -> None:
    results = Results(path, seconds=1000)
    results.attempt({"layer": "a"}, lambda: {"clusters": 3})
    for layer in ("a", "b"):
        results.attempt({"layer": layer}, lambda: fail("no provider"))
    with pytest.raises(GivingUpError, match="none of 3"):
        results.attempt({"layer": "c"}, lambda: fail("no provider"))
    assert [line.get("failed") for line in read_lines(path)] == [None] + ["RuntimeError: no provider"] * 3


def test_a_lost_gpu_ends_this_process_only(path: Path) -> None:
    results = Results(path, seconds=1000)
    results.attempt({"layer": "a"}, lambda: {"speedup": 2.0})
    for _ in range(5):
        results.attempt({"layer": "a"}, lambda: fail("no memory"))
    with pytest.raises(LostError, match="CUDA failure 700"):
        results.attempt({"layer": "b"}, lambda: fail(LOST_GPU))
    assert "illegal" in read_lines(path)[-1]["failed"]


WORKER = """
import os, signal, sys
from pathlib import Path
from tools.gpu_check.results import LOST, GivingUpError, LostError, Results

def measure(layer):
    print("measuring", layer, flush=True)
    if layer == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if layer == "loses":
        raise RuntimeError({lost!r})
    if layer == "fails":
        raise RuntimeError("no memory")
    return dict(speedup=2.0)

results = Results(Path(sys.argv[1]), 1000)
try:
    for layer in {layers!r}:
        if not results.has(dict(layer=layer)):
            results.attempt(dict(layer=layer), lambda: measure(layer))
except GivingUpError:
    sys.exit(1)
except LostError:
    sys.exit(LOST)
sys.exit(1 if results.failures else 0)
"""


def run(path: Path, *layers: str, worker: str = WORKER) -> int:
    script = worker.format(lost=LOST_GPU, layers=layers) if worker is WORKER else worker
    return again.run([sys.executable, "-c", script, str(path)], path, seconds=10_000)


def test_measuring_goes_on_after_a_crash_and_a_lost_gpu(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(path, "first", "crashes", "second", "loses", "third") == 1
    found = {line["layer"]: line.get("failed", line.get("speedup")) for line in read_lines(path)}
    assert found == {
        "first": 2.0,
        "crashes": "the process was ended by SIGSEGV",
        "second": 2.0,
        "loses": f"RuntimeError: {LOST_GPU}",
        "third": 2.0,
    }
    out = capfd.readouterr().out
    assert out.count("going on") == 2 and out.count("measuring") == 5
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("layers", "code"), [(("first", "second"), 0), (("first", "fails"), 1)])
def test_without_a_crash_once_is_enough(
    layers: tuple[str, ...], code: int, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(path, *layers) == code
    assert "going on" not in capfd.readouterr().out and len(read_lines(path)) == 2


def test_it_does_not_go_on_for_ever(path: Path) -> None:
    """Where all is lost after three failures; and where a process dies before it measures anything."""
    assert run(path, *["loses", "crashes"], "crashes 2") == 1
    path.write_text(json.dumps({"layer": "a"}) + "\n")
    assert run(path, worker="import os, signal; os.kill(os.getpid(), signal.SIGABRT)") == 1


def test_without_time_nothing_is_begun_again(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = WORKER.format(lost=LOST_GPU, layers=("loses", "second"))
    assert again.run([sys.executable, "-c", script, str(path)], path, seconds=again.WORTHWHILE - 1) == 1
    assert "second" not in capfd.readouterr().out
