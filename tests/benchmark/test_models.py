"""Comparing two models: errors, profile by layer, data and refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from models.builders import SequentialBuilder
from reuse_compiler.benchmark.models import compare_models
from reuse_compiler.benchmark.printing import print_comparison
from reuse_compiler.benchmark.report import ModelComparison
from reuse_compiler.errors import DataError, ModelError
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.hold_inputs import hold_inputs
from reuse_compiler.pipeline import lower
from reuse_compiler.reports.json_file import write_report
from reuse_compiler.reuse.config import HoldSettings, ReuseConfig, make_settings
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.verification.sessions import RunError

SIZE = 12
Compile = Callable[..., Path]


def build(size: int = SIZE, seed: int = 0) -> onnx.ModelProto:
    net = SequentialBuilder("small", size, None, seed=seed)
    net.conv("conv1", 8, kernel=3, pad=1)
    net.conv("conv2", 16, kernel=3, stride=2, pad=1)
    net.flatten()
    net.fully_connected("fc", 10, relu=False)
    return net.build()


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    onnx.save(build(), tmp_path / "dense.onnx")
    return tmp_path / "dense.onnx"


@pytest.fixture
def compiled(dense: Path) -> Compile:
    def compile_with(**options: object) -> Path:
        path = dense.with_name("reuse.onnx")
        values = {"force": True, "family": "exact"} | options
        onnx.save(lower(onnx.load(dense), CompileOptions.model_validate(values)).model, path)
        return path

    return compile_with


def test_a_lossless_model(dense: Path, compiled: Compile, tmp_path: Path) -> None:
    report = compare_models(dense, compiled(), repeats=3)
    assert [each.output for each in report.differences] == ["logits"]
    assert report.differences[0].relative_error < 1e-5
    assert len(report.first.timing.samples_ms) == len(report.second.timing.samples_ms) == 3
    assert report.first.timing.speedup == 1
    assert report.second.timing.speedup == report.first.timing.median_ms / report.second.timing.median_ms
    assert report.measured_on == "random normal input x [1, 3, 12, 12], seed 0"
    write_report(report, tmp_path / "r.json")
    assert ModelComparison.model_validate_json((tmp_path / "r.json").read_text()) == report


def test_the_profile_knows_layers_by_the_names_of_the_file(dense: Path, compiled: Compile) -> None:
    report = compare_models(dense, compiled(), repeats=2)
    layers = {node.layer: node.op for node in report.first.nodes}
    assert layers["conv1"] == layers["conv2"] == "Conv", "though onnxruntime renames them"
    assert {node.layer: node.op for node in report.second.nodes}["conv1"] == "ReuseConv"
    assert all(node.ms > 0 for times in (report.first, report.second) for node in times.nodes)
    assert report.first.reuse_nodes == []
    nodes = report.second.reuse_nodes
    assert [node.node for node in nodes] == ["conv1", "conv2"]
    # Random pixels are all different: 144 vectors for 144 rows, and for 36 rows with stride 2.
    assert [node.r_c for node in nodes] == [1, 4] and all(node.guarded == 0 for node in nodes)
    assert all(node.stages_ms.gather > 0 and node.scratch_bytes > 0 for node in nodes)


def test_the_staged_form_has_a_node_per_stage(dense: Path, compiled: Compile) -> None:
    report = compare_models(dense, compiled(lowering="staged"), repeats=1)
    stages = {f"conv1/{stage}" for stage in ("Hash", "Cluster", "CentroidGemm", "Gather")}
    assert stages <= {node.node for node in report.second.reuse_nodes}
    assert stages <= {node.layer for node in report.second.nodes}


def test_errors_are_measured_on_all_the_data(dense: Path, compiled: Compile, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, SIZE, SIZE)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    report = compare_models(dense, compiled(family="sign", num_hashes=2), data=tmp_path / "x.npy", repeats=2)
    assert report.measured_on == "5 runs of x [1, 3, 12, 12] from x.npy"
    assert len(report.first.timing.samples_ms) == 5, "every sample is timed at least once"
    assert 0.01 < report.differences[0].relative_error < 10
    in_pairs = compare_models(dense, compiled(), data=tmp_path / "x.npy", shapes={"x": (2, 3, 12, 12)}, repeats=1)
    assert in_pairs.measured_on == "2 runs of x [2, 3, 12, 12] from x.npy"


def test_any_two_models_can_be_compared(dense: Path, tmp_path: Path) -> None:
    onnx.save(build(seed=1), tmp_path / "other.onnx")
    report = compare_models(dense, tmp_path / "other.onnx", shapes={"x": (3, 3, SIZE, SIZE)}, threads=2, repeats=1)
    assert report.differences[0].relative_error > 0.1 and report.threads == 2
    assert report.second.reuse_nodes == []


def test_models_with_other_inputs_or_outputs_are_refused(dense: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    renamed = build()
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "images"
    onnx.save(renamed, other)
    with pytest.raises(ModelError, match=r"do not take the same inputs: .*'x'.*but .*'images'"):
        compare_models(dense, other)
    renamed = build()
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "scores"
    onnx.save(renamed, other)
    with pytest.raises(ModelError, match="no output in common"):
        compare_models(dense, other)


def test_models_that_do_not_run_are_named(dense: Path, tmp_path: Path) -> None:
    onnx.save(build(size=16), tmp_path / "larger.onnx")
    x = np.zeros((1, 3, SIZE, SIZE), np.float32)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(RunError, match=r"larger\.onnx does not run"):
        compare_models(dense, tmp_path / "larger.onnx", data=tmp_path / "x.npy")
    with pytest.raises(DataError, match="no sample data"):
        compare_models(dense, dense, data=tmp_path / "nothing.npz")
    with pytest.raises(ModelError, match="cannot read the model"):
        compare_models(dense, tmp_path / "nothing.onnx")


def test_a_stream_is_run_once_and_in_order(dense: Path, tmp_path: Path) -> None:
    """Of five frames the first two are alike, as are the last two; a warm-up leaves nothing to the first."""
    settings = make_settings(family="sign", layout="channel", L=4, H=5, scope="static", table="int8")
    centroids = {"conv2": np.random.default_rng(0).normal(size=(2, 32, 4)).astype(np.float32)}
    lowered = lower(
        onnx.load(dense),
        CompileOptions(stream=True),
        ReuseConfig(layers={"conv2": settings}),
        Fitted(centroids=centroids),
    )
    held, _ = hold_inputs(lowered.model, HoldSettings(tolerances=(0.0,), opening=0, dilation=0), {})
    onnx.save(held, tmp_path / "stream.onnx")
    frames = np.random.default_rng(1).normal(size=(5, 3, SIZE, SIZE)).astype(np.float32)
    frames[1], frames[4] = frames[0], frames[3]
    np.save(tmp_path / "x.npy", frames)
    report = compare_models(dense, tmp_path / "stream.onnx", data=tmp_path / "x.npy", stream=True)
    for times in (report.first, report.second):
        assert times.frames is not None and len(times.timing.samples_ms) == 5
        assert times.frames.median_ms <= times.frames.p95_ms <= times.frames.p99_ms
        assert times.frames.frames_per_second == pytest.approx(5e3 / sum(times.timing.samples_ms), rel=1e-2)
    hold, kept = [node.kept for node in sorted(report.second.reuse_nodes, key=lambda node: node.op)]
    assert hold is not None and (hold.anew, hold.changed, hold.recomputed) == (1, 2 / 5, 0)
    # The third frame has nothing in common with the second, nor the fourth with it: all is made anew twice, and the
    # fifth does without what is kept.
    assert kept is not None and kept.anew == 2 and kept.state_bytes > 0
    assert kept.recomputed == 2 / 5 and 0.2 < kept.changed < 2 / 5
    console = Console(record=True, width=110)
    print_comparison(report, console)
    text = console.export_text()
    assert "frames/s" in text and "what B keeps" in text and "what A keeps" not in text
    alone = compare_models(dense, tmp_path / "stream.onnx", data=tmp_path / "x.npy", repeats=1)
    assert alone.second.frames is None and all(node.kept is None for node in alone.second.reuse_nodes)
