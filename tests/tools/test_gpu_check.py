"""What the GPU check measures and reports, as far as it goes without a GPU."""

from __future__ import annotations

import json
import os
import re
import sys
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
from tools.gpu_check.measure import ALL_MODES, FEW_MODES, TF32_VARIABLE, Mode, measure_layer
from tools.gpu_check.models import ISSUE_GOAL, compile_layers, convolutions, in_half, layer_case, layer_order
from tools.gpu_check.outputs import MOST_COMPARED, Outputs, sample
from tools.gpu_check.parts import NEEDED
from tools.gpu_check.report import Report
from tools.gpu_check.runner import TAIL, Outcome
from tools.gpu_check.summary import summary

MODE = {"element": "float32", "tf32": False, "graph": False}


def test_a_mode_is_told_to_the_operators_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TF32_VARIABLE, "as before")
    for mode in (Mode(), Mode(tf32=True)):
        with mode.running(smoke=True):
            assert os.environ[TF32_VARIABLE] == str(int(mode.tf32))
        assert mode.provider(smoke=False).tf32 == mode.tf32
        assert mode.as_dict()["told"] == f"use_tf32={int(mode.tf32)}, REUSE_CUDA_TF32={int(mode.tf32)}"
    assert os.environ[TF32_VARIABLE] == "as before"


def test_outputs_tell_errors_and_whether_tf32_was_on() -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    reuse = dense * np.float32(1.01)
    outputs = Outputs()
    assert outputs.compare("TF32", dense, reuse).keys() == {"error"}
    assert outputs.compare("float32", dense, reuse)["error"] == pytest.approx(0.01, rel=1e-3)
    other = reuse.copy()
    other[1, 2, 3, 4] *= 1.001
    assert outputs.compare("TF32", dense, other)["differs_from_float32"] == {"dense": False, "reuse": True}
    assert outputs.compare("float16", dense.astype(np.float16), reuse.astype(np.float16)).keys() == {"error"}


def test_of_large_outputs_the_first_and_last_images_are_among_those_looked_at() -> None:
    images, size = 100, MOST_COMPARED // 10
    output = np.broadcast_to(np.arange(images, dtype=np.float32)[:, None], (images, size))
    chosen = sample(output)[:, 0]
    assert len(chosen) == 10 and chosen[0] == 0 and chosen[-1] == images - 1
    assert sample(output[:10]) is not None and len(sample(output[:10])) == 10
    assert sample(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_the_issues_layer_comes_first() -> None:
    goal, batch = layer_order()[0]
    case = layer_case(goal, batch)
    assert (
        goal is ISSUE_GOAL
        and case.spec.input_shape == (128, 256, 56, 56)
        and case.spec.output_shape == case.spec.input_shape
    )
    assert case.blocking.sub_vector_length == 256 and case.remaining_ratio == pytest.approx(0.02, rel=1e-3)


@pytest.mark.skipif(not has_cuda(), reason="a library built without CUDA kernels knows no float16")
def test_half_models_keep_their_hash_parameters() -> None:
    case = layer_case(layer_order()[-1][0], 1)
    small = case.spec
    assert small.batch == 32
    data = build_input(case)
    model = reuse_model(dense_model(case), case, data, "fused")
    half = in_half(model)
    kinds = {t.name: t.data_type for t in half.graph.initializer}
    node = half.graph.node[0]
    assert [kinds[name] for name in node.input[1:3]] == [TensorProto.FLOAT16] * 2
    assert all(kinds[name] != TensorProto.FLOAT16 for name in node.input[3:6] if name in kinds)
    expected = run_kernels(_renamed(model), data.x)
    actual = run_kernels(_renamed(half), data.x.astype(np.float16))
    assert actual.dtype == np.float16
    error = np.linalg.norm(actual.astype(np.float32) - expected) / np.linalg.norm(expected)
    assert error < 0.05, "rounding X moves a few vectors to the other side of a threshold"


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
    case = layer_case(layer_order()[-1][0], 1)
    data, outputs = build_input(case), Outputs()
    found = measure_layer(case, data, Mode(), 1, smoke=True, outputs=outputs)
    assert found["error"] < 1e-5 and found["dense_ms"] > 0 and found["guarded"] == 0
    assert found["r_c"] == pytest.approx(0.06, rel=0.05) and set(found["stages_ms"]) == {
        "hash",
        "cluster",
        "gemm",
        "gather",
    }

    # A CPU has no TF32, which shall be seen.
    again = measure_layer(case, data, Mode(tf32=True), 1, smoke=True, outputs=outputs)
    assert again["differs_from_float32"]["reuse"] is False
    assert "error" not in measure_layer(case, data, Mode(), 1, smoke=True, outputs=None)


def test_the_summary_has_a_line_for_everything(tmp_path: Path) -> None:
    line: dict[str, Any] = {"layer": "64->64", "batch": 16, **MODE, "error": 1e-6}
    line |= {"dense_ms": 2.0, "fused_ms": 1.0, "speedup": 2.0}
    tf32 = line | {"tf32": True, "error": 3e-4, "speedup": 1.5}
    tf32["differs_from_float32"] = {"dense": True, "reuse": False}
    graph = line | {"graph": True, "speedup": 7.0}
    network = line | {"network": "vgg19", "layers_with_reuse": 3, "element": "float16"}
    del network["layer"]
    failed = {"layer": "3->64", "batch": 1, **MODE, "failed": "RuntimeError: no memory"}
    skipped = {"layer": "512->512", "batch": 128, "skipped": "no time left"}
    for kind, lines in (("layers", [line, tf32, graph, failed, skipped, skipped]), ("networks", [network])):
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    outcomes = {"layers": Outcome("failed with exit code 1", 3.0, "the reason"), "networks": Outcome("passed", 1.0)}
    out = summary(Report(tmp_path, parts=outcomes)).splitlines()
    row = next(each for each in out if each.startswith("64->64") and "graph" not in each)
    assert "2.000   2.00" in row and "2.000   1.50" in row and "1e-06 3e-04 -" in row
    assert row.endswith("dense differs, reuse IS EQUAL")
    assert any("graph" in each and "7.00" in each for each in out)
    assert any(each.startswith("vgg19") and "2.00 (3)" in each for each in out)
    assert "failed: 3->64, batch 1 float32: RuntimeError: no memory" in out
    assert "skipped: 512->512, batch 128 and 1 more: no time left" in out
    assert out.index("the reason") < len(out) - 2 and out[-2].endswith("3.0 s  failed with exit code 1")
    assert not summary(Report(tmp_path, parts={})).strip()


def test_a_whole_summary_fits_where_only_the_end_is_kept(tmp_path: Path) -> None:
    line = {**MODE, "error": 1e-6, "dense_ms": 99999.999, "fused_ms": 1.0, "speedup": 999.99}
    differs = {"differs_from_float32": {"dense": True, "reuse": True}}
    with (tmp_path / "layers.jsonl").open("w") as stream:
        for index, (goal, batch) in enumerate(layer_order()):
            for mode in ALL_MODES if batch == 1 or index < 3 else FEW_MODES:
                own = {"layer": f"{goal.layer}, {goal.setting}", "batch": batch} | line | mode.as_dict()
                stream.write(json.dumps(own | (differs if mode.tf32 else {})) + "\n")
    outcomes = {f"part {i}": Outcome("failed with exit code 1", 1.0, "x" * TAIL) for i in range(9)}
    assert len(summary(Report(tmp_path, parts=outcomes | {"layers": Outcome("passed")}))) < 12_000


def test_the_rehearsal_shows_the_plan_and_runs_what_needs_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--dry", "--only", "session,networks", "--output", str(tmp_path)])
    assert gpu_check.main() == 0
    out = capsys.readouterr().out
    plan = out[out.index("begins at") : out.index("The rehearsal")]
    assert plan.index("session") < plan.index("networks") and "operators" not in plan
    assert "test_first_session.py: 5" in out and "ready where a GPU is" in out
    # However long they took: the seconds stand in a column, so that more of them leave fewer spaces.
    assert re.findall(r"^(\S+) +[\d.]+ s +passed$", out, re.MULTILINE) == ["session?", "networks"]
    assert {path.name for path in tmp_path.iterdir()} == {"gpu.json", "gpu_check.log", "networks.jsonl"}
    assert out == (tmp_path / "gpu_check.log").read_text()
    lines = json.loads((tmp_path / "gpu.json").read_text())["networks"]
    assert {line["network"] for line in lines} == {"cifarnet"} and all("speedup" in line for line in lines)


def test_an_unknown_part_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--dry", "--only", "kernels,no_such"])
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "no part is called no_such; there are" in capsys.readouterr().err


def test_the_rehearsal_tells_what_is_lacking_from_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch is needed by some parts only; without rich nothing of ours can be imported."""
    outcomes = {}
    for name in ("torch", "rich"):
        found = {**dict.fromkeys((*NEEDED, "torch"), "1.0"), name: "missing"}
        monkeypatch.setattr(gpu_check, "describe", lambda variables, found=found: {"packages": found})
        monkeypatch.setattr(
            sys, "argv", ["gpu_check", "--dry", "--only", "session,steps", "--output", str(tmp_path / name)]
        )
        outcomes[name] = gpu_check.main(), capsys.readouterr().out
    code, out = outcomes["torch"]
    assert code == 0 and "lacking here: torch missing" in out and "skipped: torch missing" in out
    code, out = outcomes["rich"]
    assert code == 1 and "lacking here: rich missing" in out and out.splitlines()[-1].startswith("not ready")
