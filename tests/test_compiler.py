"""The use case as a Python call: defaults, progress, and the check of lossless results."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.builders import SequentialBuilder
from reuse_compiler.compiler import check_lossless, compile_file, default_output, versions
from reuse_compiler.errors import ConfigError, ModelError, VerificationError
from reuse_compiler.options import CompileOptions
from reuse_compiler.report import LayerReport, ModelReport
from reuse_compiler.verification.verify import Verification


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = SequentialBuilder("small", 8, None, seed=0)
    net.conv("conv1", 8, kernel=3, pad=1)
    net.conv("conv2", 8, kernel=3, pad=1)
    path = tmp_path / "net.onnx"
    onnx.save(net.build(), path)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [("net.onnx", "net.reuse.onnx"), ("net", "net.reuse.onnx"), ("net.v1.2", "net.v1.2.reuse.onnx")],
)
def test_default_output(name: str, expected: str) -> None:
    assert default_output(Path("folder") / name) == Path("folder") / expected


def test_a_call_with_options(model: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = compile_file(
        model,
        options=CompileOptions(force=True, family="exact"),
        progress=lambda what, done, total: calls.append((what, done, total)),
    )
    assert [layer.decision for layer in report.layers] == ["reuse", "reuse"]
    assert report.output == str(model.with_name("net.reuse.onnx")) and Path(report.output).is_file()
    assert report.rel_error is not None and report.rel_error < 1e-5
    assert list(dict.fromkeys(what for what, _, _ in calls)) == [
        "reading the model",
        "rewriting convolutions",
        "comparing both models",
        "measuring conv1 to conv2",
        "writing the result",
    ]


def test_errors_are_raised_and_not_printed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="is the model itself"):
        compile_file(model, model, overwrite=True)
    with pytest.raises(ModelError, match="cannot read the model"):
        compile_file(model.with_name("missing.onnx"))
    assert capsys.readouterr() == ("", "")


def test_versions_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions()["operators"][0].isdigit()
    monkeypatch.setenv("REUSE_LIBRARY", "/no/such/library")
    assert versions()["operators"] == "missing"


class TestLossless:
    """A lossless result beyond rounding cannot be provoked with correct kernels, so the check gets made-up numbers."""

    @staticmethod
    def report(*families: str) -> ModelReport:
        layers = [
            LayerReport(name=f"conv{i}", decision="reuse", reason="", family=family)
            for i, family in enumerate(families)
        ]
        layers.append(LayerReport(name="other", decision="dense", reason="", family="sign"))
        return ModelReport(model="net.onnx", layers=layers, versions={}, options={})

    def test_rounding_passes(self) -> None:
        result = Verification("", rel_error=9e-4, layer_errors={"conv0": 1e-6})
        check_lossless(self.report("exact", "exact"), result)
        check_lossless(self.report("exact"), Verification("", rel_error=None))

    def test_rounding_of_a_vanishing_output_passes(self) -> None:
        check_lossless(self.report("exact"), Verification("", rel_error=0.15, max_abs_error=1.5e-7))

    def test_an_error_names_the_first_layer(self) -> None:
        result = Verification("", rel_error=0.2, layer_errors={"conv0": 1e-6, "conv1": 2e-3})
        with pytest.raises(VerificationError, match=r"layer 'conv1' has a relative error of 0\.002"):
            check_lossless(self.report("exact", "exact"), result)

    def test_an_error_of_the_output_counts_too(self) -> None:
        with pytest.raises(VerificationError, match="the model's output has a relative error of inf"):
            check_lossless(self.report("exact"), Verification("", rel_error=float("inf")))

    def test_lossy_layers_may_err(self) -> None:
        check_lossless(self.report("exact", "sign"), Verification("", rel_error=0.5, layer_errors={"conv0": 0.5}))


class TestMeasuredRatios:
    """With data, r_c is measured, so that families without a bound are used where they pay, and only there."""

    @pytest.fixture
    def wide(self, tmp_path: Path) -> Path:
        net = SequentialBuilder("wide", 48, None, seed=0)
        net.conv("conv1", 64, kernel=3, pad=1)
        net.conv("conv2", 64, kernel=3, pad=1)
        path = tmp_path / "wide.onnx"
        onnx.save(net.build(), path)
        return path

    @staticmethod
    def data(folder: Path, repeating: bool) -> Path:
        x = np.random.default_rng(0).standard_normal((2, 3, 48, 48)).astype(np.float32)
        x[:, :, 4:, 4:] = 1.0 if repeating else x[:, :, 4:, 4:]
        np.savez(folder / "data.npz", x=x)
        return folder / "data.npz"

    def test_lossless_layers_are_used_without_force_where_vectors_repeat(self, wide: Path) -> None:
        data = self.data(wide.parent, repeating=True)
        report = compile_file(wide, options=CompileOptions(family="exact"), verify_data=data)
        conv2 = report.layers[1]
        assert conv2.decision == "reuse" and "r_c measured" in conv2.reason
        assert conv2.r_c is not None and conv2.r_c < 0.5
        assert conv2.predicted_cost is not None and conv2.predicted_cost < 1

    def test_they_are_declined_where_vectors_do_not_repeat(self, wide: Path) -> None:
        data = self.data(wide.parent, repeating=False)
        for dry_run in (False, True):
            options = CompileOptions(family="exact")
            report = compile_file(wide, options=options, verify_data=data, dry_run=dry_run)
            assert [layer.decision for layer in report.layers] == ["dense", "dense"]
            assert "r_c measured 1;" in report.layers[1].reason.replace(")", "")

    def test_without_data_the_bound_stands(self, wide: Path) -> None:
        report = compile_file(wide, options=CompileOptions(family="exact"))
        assert report.layers[1].decision == "dense" and "r_c at most 1" in report.layers[1].reason
