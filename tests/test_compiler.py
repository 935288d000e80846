"""The use case as a Python call: defaults, progress, and the check of lossless results."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.builders import SequentialBuilder
from reuse_compiler.compiler import compile_file, default_output
from reuse_compiler.errors import ConfigError, DataError, ModelError
from reuse_compiler.options import CompileOptions
from reuse_compiler.reuse.config import FamilyName
from reuse_compiler.verification.probes import measure_ratios
from reuse_compiler.verification.verify import LayerTensor, Verification, Verifier


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


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    net = SequentialBuilder("wide", 48, None, seed=0)
    net.conv("conv1", 64, kernel=3, pad=1)
    net.conv("conv2", 64, kernel=3, pad=1)
    path = tmp_path / "wide.onnx"
    onnx.save(net.build(), path)
    return path


def data_for(model: Path, repeating: bool) -> Path:
    x = np.random.default_rng(0).standard_normal((2, 3, 48, 48)).astype(np.float32)
    x[:, :, 4:, 4:] = 1.0 if repeating else x[:, :, 4:, 4:]
    np.savez(model.parent / "data.npz", x=x)
    return model.parent / "data.npz"


@pytest.fixture
def slower_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes a model count as slower with as many layers of reuse or more, whatever a busy machine measures."""
    layers: list[int] = []
    run = Verifier.run

    def measured(verifier: Verifier, tensors: Sequence[LayerTensor]) -> Verification:
        return replace(run(verifier, tensors), slower=len(tensors) >= layers[-1])

    monkeypatch.setattr(Verifier, "run", measured)
    return layers.append


class TestMeasuredRatios:
    """With data, r_c is measured, so that families without a bound are used where they pay, and only there."""

    def test_lossless_layers_are_used_without_force_where_vectors_repeat(
        self, wide: Path, slower_with: Callable[[int], None]
    ) -> None:
        slower_with(99)
        report = compile_file(wide, options=CompileOptions(family="exact"), verify_data=data_for(wide, repeating=True))
        conv2 = report.layers[1]
        assert conv2.decision == "reuse" and "r_c measured" in conv2.reason
        assert conv2.r_c is not None and conv2.r_c < 0.5
        assert conv2.predicted_cost is not None and conv2.predicted_cost < 1

    def test_they_are_declined_where_vectors_do_not_repeat(self, wide: Path) -> None:
        data = data_for(wide, repeating=False)
        for dry_run in (False, True):
            options = CompileOptions(family="exact")
            report = compile_file(wide, options=options, verify_data=data, dry_run=dry_run)
            assert [layer.decision for layer in report.layers] == ["dense", "dense"]
            assert "r_c measured 1;" in report.layers[1].reason.replace(")", "")

    def test_layers_that_cannot_pay_are_not_tried(self, wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One of them may take a hundred times as long with reuse: only those run that may pay on such data."""
        tried: list[list[str]] = []

        def measured(model: onnx.ModelProto, *rest: Any) -> dict[str, float]:
            tried.append([node.name for node in model.graph.node if node.domain == "ai.reuse"])
            return measure_ratios(model, *rest)

        monkeypatch.setattr("reuse_compiler.compiler.measure_ratios", measured)
        data = data_for(wide, repeating=False)
        first, second = compile_file(wide, options=CompileOptions(family="exact"), verify_data=data).layers
        assert tried == [[second.name]] and "r_c measured" in second.reason
        assert first.decision == "dense" and "r_c at best 0" in first.reason
        compile_file(
            wide, options=CompileOptions(family="exact", sub_vector_length=1), verify_data=data, overwrite=True
        )
        assert len(tried) == 1, "gathering alone costs more than the dense layers"

    def test_without_data_nothing_is_assumed(self, wide: Path) -> None:
        report = compile_file(wide)
        assert report.layers[1].decision == "dense" and "a small sample cannot tell" in report.layers[1].reason
        assert not report.regions
        alone = compile_file(wide, options=CompileOptions(single=True), overwrite=True)
        assert alone.layers[1].decision == "reuse" and "r_c at best 0" in alone.layers[1].reason


class TestUnknownSizes:
    """Nodes compute how far the input is padded, which ONNX's shape inference does not follow."""

    @pytest.fixture
    def hidden(self, wide: Path) -> Path:
        model = onnx.load(wide)
        model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1, -1] * 2), "negative"))
        model.graph.node[0].input[0] = "padded"
        model.graph.node.insert(0, onnx.helper.make_node("Pad", ["x", "pads"], ["padded"], mode="reflect"))
        model.graph.node.insert(0, onnx.helper.make_node("Neg", ["negative"], ["pads"]))
        onnx.save(model, wide)
        return wide

    @pytest.mark.parametrize("family", ["exact", "sign"])
    def test_layers_of_unknown_cost_stay_dense(self, hidden: Path, family: FamilyName) -> None:
        report = compile_file(hidden, options=CompileOptions(family=family))
        assert [layer.decision for layer in report.layers] == ["dense", "dense"]
        assert all("its input size is unknown" in layer.reason for layer in report.layers)
        assert all("--verify-data" in layer.reason for layer in report.layers)

    def test_sizes_are_measured_on_data(self, hidden: Path, slower_with: Callable[[int], None]) -> None:
        slower_with(99)
        data, options = data_for(hidden, repeating=True), CompileOptions(family="exact")
        report = compile_file(hidden, options=options, verify_data=data)
        conv1, conv2 = report.layers
        assert (conv1.N, conv2.N) == (50 * 50, 50 * 50)
        assert conv1.decision == "dense" and conv1.reason.startswith("predicted cost")
        assert conv2.decision == "reuse" and "r_c measured" in conv2.reason


class TestSlowerThanTheOriginal:
    """What was measured slower on the user's data is not written, unless the user demands it."""

    OPTIONS = CompileOptions(family="sign", num_hashes=6)

    @pytest.fixture
    def deep(self, wide: Path) -> Path:
        net = SequentialBuilder("deep", 48, None, seed=0)
        for number, channels in enumerate((32, 64, 128, 64), start=1):
            net.conv(f"conv{number}", channels, kernel=3, pad=1)
        onnx.save(net.build(), wide)
        return wide

    def test_layers_are_taken_back_until_it_is_not(self, deep: Path, slower_with: Callable[[int], None]) -> None:
        slower_with(2)
        report = compile_file(deep, options=self.OPTIONS, verify_data=data_for(deep, repeating=True))
        assert [layer.decision for layer in report.layers] == ["dense", "dense", "reuse", "dense"], report.layers
        taken_back = [layer.reason for layer in report.layers if layer.reason.startswith("taken back")]
        assert len(taken_back) >= 2
        assert all(re.search(r"took .* ms with it, the original .* ms .*predicted.*--force", r) for r in taken_back)
        assert report.dense_ms is not None and report.layers[2].output_error is not None
        compiled = onnx.load(deep.with_name("wide.reuse.onnx"))
        assert [node.name for node in compiled.graph.node if node.op_type == "ReuseConv"] == ["conv3"]

    def test_at_last_the_original_is_written(self, deep: Path, slower_with: Callable[[int], None]) -> None:
        slower_with(0)
        report = compile_file(deep, options=self.OPTIONS, verify_data=data_for(deep, repeating=True))
        assert {layer.decision for layer in report.layers} == {"dense"}
        assert report.layers[2].reason.startswith("taken back, as the model took")
        assert report.reuse_ms is None and report.rel_error is None
        assert onnx.load(deep.with_name("wide.reuse.onnx")) == onnx.load(deep)

    @pytest.mark.parametrize(("force", "data"), [(True, True), (False, False)])
    def test_what_is_demanded_or_ran_on_random_inputs_stays(
        self, deep: Path, slower_with: Callable[[int], None], force: bool, data: bool
    ) -> None:
        slower_with(0)
        options = self.OPTIONS.model_copy(update={"force": force})
        report = compile_file(deep, options=options, verify_data=data_for(deep, repeating=True) if data else None)
        assert report.layers[2].decision == "reuse" and report.reuse_ms is not None

    def test_what_a_configuration_names_stays(self, deep: Path, slower_with: Callable[[int], None]) -> None:
        slower_with(0)
        config = deep.with_name("c.json")
        config.write_text('{"layers": {"conv3": {"layout": "channel", "L": 64, "H": 6}}}')
        options = CompileOptions(config=config)
        report = compile_file(deep, options=options, verify_data=data_for(deep, repeating=True))
        assert report.layers[2].decision == "reuse"


def test_an_input_without_a_rank_has_the_shape_that_is_given(wide: Path, slower_with: Callable[[int], None]) -> None:
    slower_with(99)
    model = onnx.load(wide)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, wide)
    data, options = data_for(wide, repeating=True), CompileOptions(family="exact")
    unknown = compile_file(wide, options=options)
    assert "--shape" in unknown.layers[1].reason and "--verify-data" in unknown.layers[1].reason
    np.save(wide.with_name("data.npy"), np.load(data)["x"][:1])
    measured = compile_file(wide, options=options, verify_data=wide.with_name("data.npy"), overwrite=True)
    assert (measured.layers[1].decision, measured.layers[1].N) == ("reuse", 48 * 48)
    given = options.model_copy(update={"shapes": {"x": (2, 3, 48, 48)}})
    assert [layer.N for layer in compile_file(wide, options=given, overwrite=True).layers] == [2 * 48 * 48] * 2
    with pytest.raises(DataError, match="declares no shape: give its sizes with --shape, or --verify-data"):
        compile_file(wide, options=CompileOptions(family="exact", force=True), overwrite=True)
