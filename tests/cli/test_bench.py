"""The command `reuse-bench`: what it prints, what it writes, and what it refuses."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import Result

from reuse_compiler.benchmark.report import ConvReport, ModelComparison, WorstCase
from reuse_compiler.cli.bench import app
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.runtime import import_onnxruntime
from tests.custom_ops.quantised_cases import runtime_saturates
from tests.running import run_command

Run = Callable[..., Result]
LAYER = [
    "conv",
    "--input",
    "1x16x12x12",
    "--weight",
    "8x16x3x3",
    "--L",
    "8",
    "--remaining-ratio",
    "0.1",
    "--repeats",
    "1",
]


@pytest.fixture
def bench() -> Run:
    """Runs `reuse-bench` with the given arguments."""
    return partial(run_command, app)


class TestConv:
    def test_prints_what_it_writes(self, bench: Run, tmp_path: Path) -> None:
        result = bench(*LAYER, "--int8", "--json", tmp_path / "r.json")
        assert result.exit_code == 0, result.stderr
        report = ConvReport.model_validate_json((tmp_path / "r.json").read_text())
        assert report.r_c == 14 / 144 and report.int8 is not None
        lines = result.stdout.splitlines()
        assert lines[0] == "16->8, 3x3, 12x12, 1 thread, 1 run of each in turn"
        assert lines[2] == "r_c 0.0972 measured, 0.1 asked: 14 distinct vectors in each of 2 blocks"
        rows = {line.split()[0]: line.split()[1:] for line in lines if line}
        for form in ("dense", "staged", "fused", "int8"):
            timing = getattr(report, form)
            assert rows[form][:3] == [f"{timing.median_ms:.3f}", f"{timing.fastest_ms:.3f}", f"{timing.speedup:.2f}"]
        assert report.floor
        for stage in ("hash", "cluster", "gemm", "gather"):
            assert rows[stage][:2] == [
                f"{getattr(report.floor, stage).ms:.3f}",
                f"{getattr(report.fused.stages_ms, stage):.3f}",
            ]
        assert f"floor {report.floor.total_ms:.3f} ms" in result.stdout and "GFLOP/s" in result.stdout

    def test_every_flag_reaches_the_measurement(self, bench: Run, tmp_path: Path) -> None:
        flags = "--input 1x16x12x12 --weight 8x8x3x3 --L 8 --remaining-ratio 0.5 --bits 7 --stride 2x1 --pad 0x1x2x3"
        flags += " --dilation 1x2 --group 2 --family sign --layout patch --order random --threads 2 --repeats 2"
        flags += " --seed 5 --no-staged --table float"
        result = bench("conv", *flags.split(), "--json", tmp_path / "r.json")
        assert result.exit_code == 0, result.stderr
        report = ConvReport.model_validate_json((tmp_path / "r.json").read_text())
        layer, setting = report.layer, report.setting
        assert (layer.strides, layer.pads, layer.dilations, layer.group) == ([2, 1], [0, 1, 2, 3], [1, 2], 2)
        assert (setting.family, setting.layout, setting.order, setting.H, setting.seed) == (
            "sign",
            "patch",
            "random",
            7,
            5,
        )
        assert (report.threads, report.repeats, setting.table, report.staged) == (2, 2, "float", None)

    def test_a_scope_reaches_the_measurement(self, bench: Run, tmp_path: Path) -> None:
        result = bench(*LAYER, "--scope", "static", "--table", "int8", "--bits", "8", "--json", tmp_path / "r.json")
        assert result.exit_code == 0, result.stderr
        report = ConvReport.model_validate_json((tmp_path / "r.json").read_text())
        assert (report.setting.scope, report.setting.table, report.setting.H) == ("static", "int8", 8)
        assert "layout channel, scope static, L=8, H=8, int8 tables" in result.stdout

    @pytest.mark.skipif(runtime_saturates(), reason="onnxruntime's QLinearConv cuts sums off on this processor")
    def test_bytes_are_measured_beside_onnxruntimes(self, bench: Run, tmp_path: Path) -> None:
        result = bench(*LAYER, "--quantised", "--json", tmp_path / "r.json")
        assert result.exit_code == 0, result.stderr
        report = ConvReport.model_validate_json((tmp_path / "r.json").read_text())
        assert (report.r_c, report.setting.family, report.setting.table) == (14 / 144, "exact", "int32")
        assert "QLinearConv" in result.stdout and report.fused.stages_ms.gemm > 0.0
        result = bench(*LAYER, "--quantised", "--scope", "static", "--bits", 5, "--json", tmp_path / "r.json")
        assert result.exit_code == 0, result.stderr
        report = ConvReport.model_validate_json((tmp_path / "r.json").read_text())
        assert (report.r_c, report.setting.family, report.setting.table) == (14 / 144, "learned", "int8")
        assert "scope static, L=8, H=5, int8 tables" in result.stdout and report.fused.relative_error > 0.0

    def test_a_report_is_replaced(self, bench: Run, tmp_path: Path) -> None:
        (tmp_path / "r.json").write_text("old")
        assert bench(*LAYER, "--json", tmp_path / "r.json").exit_code == 0
        ConvReport.model_validate_json((tmp_path / "r.json").read_text())

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ("--input 1x16x12", "Invalid value for '--input': '1x16x12' is not of the form NxCxHxW"),
            ("--weight 8x16x3xthree", "Invalid value for '--weight'"),
            ("--input 0x16x12x12", "Invalid value for '--input'"),
            ("--stride 1x2x3", "Invalid value for '--stride'"),
            ("--stride 0", "Invalid value for '--stride'"),
            ("--pad 1x1x1", "Invalid value for '--pad'"),
            ("--pad -1", "Invalid value for '--pad'"),
            ("--int8 --provider cuda", "Invalid value for '--int8': onnxruntime's quantised Conv"),
            ("--quantised --int8", "Invalid value for '--quantised': bytes are measured alone"),
            ("--quantised --scope session", "leave --table off, and --scope session"),
            ("--provider tpu", "Invalid value for '--provider'"),
            ("--weight 8x15x3x3", "the input has 16 channels, but weights 8x15x3x3 in 1 group(s) read 15"),
            ("--remaining-ratio 1.5", "asks for 216 distinct vectors, but a block has only 144: give at most 1"),
            ("--remaining-ratio 0", "not even one distinct vector"),
            ("--remaining-ratio many", "Invalid value for '--remaining-ratio'"),
            ("--bits 17", "--bits 17: family learned takes 1 to 16"),
            ("--L 500", "--L 500 is larger than the 144 columns"),
            ("--family pstable", "Invalid value for '--family'"),
        ],
    )
    def test_refusals_are_one_sentence(self, bench: Run, flags: str, message: str) -> None:
        result = bench(*LAYER, *flags.split())
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert message in result.stderr

    def test_a_report_that_cannot_be_written(self, bench: Run, tmp_path: Path) -> None:
        result = bench(*LAYER, "--json", tmp_path / "nowhere" / "r.json")
        assert result.exit_code == 1 and "does not exist" in result.stderr


class TestModel:
    def test_prints_what_it_writes(self, bench: Run, model: Path, network: onnx.ModelProto) -> None:
        other, report = model.with_name("reuse.onnx"), model.with_name("r.json")
        onnx.save(lower(network, CompileOptions(family="exact", force=True)).model, other)
        result = bench("model", model, other, "--shape", "x:2,3,12,12", "--repeats", 2, "--json", report)
        assert result.exit_code == 0 and result.stderr == "", result.stderr
        read = ModelComparison.model_validate_json(report.read_text())
        assert read.measured_on == "random normal input x [2, 3, 12, 12], seed 0"
        assert f"{read.second.timing.speedup:.2f}" in result.stdout
        words = {line.split()[0]: line for line in result.stdout.splitlines() if "ReuseConv" in line}
        assert set(words) == {"conv1", "conv2", "conv3"} and all("Conv, ReuseConv" in line for line in words.values())
        assert "reuse nodes of B" in result.stdout and "reuse nodes of A" not in result.stdout

    def test_the_staged_form_is_summed_up_by_layer(self, bench: Run, model: Path, network: onnx.ModelProto) -> None:
        other = model.with_name("staged.onnx")
        onnx.save(lower(network, CompileOptions(family="exact", force=True, lowering="staged")).model, other)
        result = bench("model", model, other, "--repeats", 1)
        assert "Conv, Hash, Cluster, CentroidGemm, Gather" in result.stdout
        assert "dynamic dimensions are assumed" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["missing.onnx"], 1, "cannot read the model"),
            (["--shape", "x:1,3"], 2, "Missing argument 'B.onnx'"),
            (["net.onnx", "--json", "net.onnx"], 2, "would replace a model"),
            (["net.onnx", "--data", "nothing.npz"], 1, "there is no sample data"),
            (["net.onnx", "--shape", "y:1,3,12,12"], 2, "the model has no such input"),
        ],
    )
    def test_refusals_are_one_sentence(
        self,
        bench: Run,
        model: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        code: int,
        message: str,
    ) -> None:
        monkeypatch.chdir(model.parent)
        result = bench("model", model.name, *arguments)
        assert result.exit_code == code and message in result.stderr
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


class TestWorst:
    def test_nothing_repeats_where_all_did(self, bench: Run, model: Path, network: onnx.ModelProto) -> None:
        other, report, data = model.with_name("reuse.onnx"), model.with_name("r.json"), model.with_name("x.npy")
        onnx.save(lower(network, CompileOptions(family="exact", force=True)).model, other)
        np.save(data, np.full((2, 3, 12, 12), 0.5, np.float32))
        result = bench("worst", model, other, "--data", data, "--repeats", 2, "--json", report)
        assert result.exit_code == 0, result.stderr
        read = WorstCase.model_validate_json(report.read_text())
        given, noisy = (
            {node.node: node.r_c for node in each.second.reuse_nodes} for each in (read.as_given, read.without_repeats)
        )
        assert given["conv1"] is not None and given["conv1"] < 0.05
        assert noisy["conv1"] is not None and noisy["conv1"] >= 1.0
        assert all(each.relative_error < 1e-5 for each in read.without_repeats.differences)
        assert "with noise of 0.001" in read.without_repeats.measured_on
        lines = [line.split() for line in result.stdout.splitlines()]
        assert [line[0] for line in lines if line[:1] in (["as"], ["without"])] == ["as", "without"]
        [row] = [line for line in lines if line[:1] == ["conv1"]]
        assert len(row) == 6 and all(float(number) >= 0 for number in row[1:])  # r_c twice, and three times

    def test_noise_must_be_some(self, bench: Run, model: Path) -> None:
        result = bench("worst", model, model, "--noise", 0)
        assert result.exit_code == 2 and "--noise" in result.stderr


def test_no_command_is_one_sentence(bench: Run) -> None:
    result = bench()
    assert result.exit_code == 2 and result.stderr == "error: Missing command (see --help)\n"


@pytest.mark.parametrize("command", ["conv", "model", "worst"])
def test_help(bench: Run, command: str) -> None:
    result = bench(command, "--help")
    assert result.exit_code == 0 and "--json" in result.stdout


@pytest.mark.skipif("CUDAExecutionProvider" in import_onnxruntime().get_available_providers(), reason="there is CUDA")
def test_cuda_where_there_is_none_is_one_sentence(bench: Run) -> None:
    result = bench(*LAYER, "--provider", "cuda")
    assert result.exit_code == 1 and "no CUDA provider" in result.stderr and "Traceback" not in result.stderr
