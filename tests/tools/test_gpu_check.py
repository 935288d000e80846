"""The GPU check, as far as it goes without a GPU: its parts, limits, results and models."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from models import builders
from reuse_compiler.benchmark.inputs import build_input
from reuse_compiler.benchmark.layer import dense_model, reuse_model
from reuse_compiler.runtime.library import has_cuda
from tests.running import run_kernels
from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check.measure import Mode, Results, measure_layer
from tools.gpu_check.models import ISSUE_GOAL, compile_layers, convolutions, in_half, layer_case, layer_order
from tools.gpu_check.parts import Part, all_parts
from tools.gpu_check.summary import print_summary, read_lines


def part(script: str, limit: int = 30) -> Part:
    return Part("part", "does it", [sys.executable, "-c", script], limit)


def test_a_part_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(marker)!r}).touch()"
    script = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    result = gpu_check.run_part(part(script, limit=1), tmp_path / "log")
    assert result["status"] == "stopped after 1 seconds" and "begun" in result["output"]
    time.sleep(3)
    assert not marker.exists()


def test_parts_end_as_their_programs_do(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert gpu_check.run_part(part("print('x')"), log)["status"] == "passed"
    assert gpu_check.run_part(part("raise SystemExit(7)"), log)["status"] == "failed with exit code 7"
    absent = Part("part", "", ["/no/such/program"], 5)
    assert gpu_check.run_part(absent, log)["status"].startswith("failed: ")
    needy = Part("part", "", [sys.executable], 5, programs=("no-such-program",))
    assert gpu_check.run_part(needy, log)["status"] == "skipped: no-such-program not found"


def test_the_report_is_written_whatever_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [part("pass"), Part("broken", "breaks", [sys.executable, "-c", "raise SystemExit(3)"], 30)]
    output = tmp_path / "gpu.json"
    assert gpu_check.check(parts, tmp_path, output) == 1
    report = json.loads(output.read_text())
    assert {name: each["status"] for name, each in report["parts"].items()} == {
        "part": "passed",
        "broken": "failed with exit code 3",
    }
    assert "broken" in capsys.readouterr().out


def test_the_time_of_all_parts_is_bounded(tmp_path: Path) -> None:
    shared = [each for each in all_parts(tmp_path, "90a-real", 460) if not each.optional]
    assert [each.name for each in shared] == [
        "build", "kernels", "memcheck", "racecheck", "operators", "layers", "networks",
    ]  # fmt: skip
    short = [each for each in all_parts(tmp_path, "90a-real", 230) if not each.optional]
    assert sum(each.limit for each in short) < 0.6 * sum(each.limit for each in shared)


@pytest.mark.parametrize(("arguments", "wanted"), [([], False), (["--optional"], True), (["--only", "training"], True)])
def test_training_runs_only_where_it_is_asked_for(
    arguments: list[str], wanted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--dry", *arguments])
    gpu_check.main()
    assert ("tools.training_results gpu" in capsys.readouterr().out) == wanted


def test_results_survive_failures_and_a_line_that_was_cut_off(tmp_path: Path) -> None:
    results = Results(tmp_path / "layers.jsonl", seconds=1000)

    def fail() -> dict[str, Any]:
        raise RuntimeError("no memory")

    results.attempt({"layer": "a", "batch": 1}, fail)
    assert results.failures == 1
    results.attempt({"layer": "b", "batch": 1}, lambda: {"speedup": 2.0})
    Results.attempt(_ended(results), {"layer": "c", "batch": 1}, lambda: {"speedup": 2.0})
    with (tmp_path / "layers.jsonl").open("a") as stream:
        stream.write('{"layer": "d", "ba')
    lines = read_lines(tmp_path / "layers.jsonl")
    assert [line.get("failed") or line.get("skipped") for line in lines] == [
        "RuntimeError: no memory",
        None,
        "no time left",
    ]
    assert read_lines(tmp_path / "absent") == []


def _ended(results: Results) -> Results:
    results._end = 0.0
    return results


def test_the_issues_layer_comes_first() -> None:
    goal, batch = layer_order()[0]
    case = layer_case(goal, batch).case
    assert (
        goal is ISSUE_GOAL
        and case.spec.input_shape == (128, 256, 56, 56)
        and case.spec.output_shape == case.spec.input_shape
    )
    assert case.blocking.sub_vector_length == 256 and case.remaining_ratio == pytest.approx(0.02, rel=1e-3)


@pytest.mark.skipif(not has_cuda(), reason="a library built without CUDA kernels knows no float16")
def test_half_models_keep_their_hash_parameters() -> None:
    case = layer_case(layer_order()[-1][0], 1).case
    small = case.spec
    assert small.batch == 32
    data = build_input(case)
    model = reuse_model(dense_model(case), case, data, "fused")
    half = in_half(model)
    kinds = {t.name: t.data_type for t in half.graph.initializer}
    node = half.graph.node[0]
    assert [kinds[name] for name in node.input[1:3]] == [TensorProto.FLOAT16] * 2
    assert all(kinds[name] != TensorProto.FLOAT16 for name in node.input[3:] if name in kinds)
    expected = run_kernels(_renamed(model), data.x)
    actual = run_kernels(_renamed(half), data.x.astype(np.float16))
    assert actual.dtype == np.float16
    error = np.linalg.norm(actual.astype(np.float32) - expected) / np.linalg.norm(expected)
    assert error < 5e-3


def test_layers_of_a_network_are_found_and_declined_by_name() -> None:
    model, shapes = builders.trained("cifarnet"), {"x": (2, 3, 32, 32)}
    alone = convolutions(model, shapes)
    assert [shape_of(each.graph.input[0]) for each in alone.values()] == [(2, 3, 32, 32), (2, 64, 16, 16)]
    first = next(iter(alone))
    compiled = compile_layers(model, [first], shapes)
    assert [node.op_type for node in compiled.graph.node].count("ReuseConv") == 1
    assert next(node for node in compiled.graph.node if node.name == first).op_type == "Conv"


def shape_of(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _renamed(model: Any) -> Any:
    """The model with input X, as `run_kernels` wants it."""
    for node in model.graph.node:
        node.input[:] = ["X" if name == "x" else name for name in node.input]
    model.graph.input[0].name = "X"
    return model


def test_a_layer_is_measured_on_the_cpu_too() -> None:
    layer = layer_case(layer_order()[-1][0], 1)
    found = measure_layer(layer, build_input(layer.case), Mode(), 1, smoke=True)
    assert found["error"] < 1e-5 and found["dense_ms"] > 0 and found["guarded"] == 0
    assert found["r_c"] == pytest.approx(0.06, rel=0.05) and set(found["stages_ms"]) == {
        "hash",
        "cluster",
        "gemm",
        "gather",
    }


def test_the_summary_has_a_line_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    mode = {"element": "float32", "tf32": True, "graph": True}
    line: dict[str, Any] = {"layer": "64->64", "batch": 16, **mode, "error": 1e-3}
    line |= {"dense_ms": 2.0, "fused_ms": 1.0, "speedup": 2.0}
    network = line | {"network": "vgg19", "layers_with_reuse": 3, "element": "float16"}
    del network["layer"]
    skipped = {"layer": "512->512", "batch": 128, "skipped": "no time left"}
    print_summary(
        {"layers": [line, skipped], "networks": [network], "parts": {"build": {"seconds": 1.0, "status": "passed"}}}
    )
    out = capsys.readouterr().out
    assert "TF32 graph" in out and "float16 graph" in out and "vgg19, 3 layers with reuse" in out
    assert "512->512" in out and "no time left" in out and "passed" in out
