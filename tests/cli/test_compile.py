"""The command `reuse-compile`, from the first run without flags to every file it writes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import Result

import reuse_compiler
from reuse_compiler.report import ModelReport

Run = Callable[..., Result]
X = np.random.default_rng(0).standard_normal((4, 3, 12, 12)).astype(np.float32)


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def dense_result(model: Path) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0])


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


class TestRewriting:
    def test_the_first_run_needs_no_flag(self, run: Run, model: Path) -> None:
        # Convolutions as small as these take less time than looking whether their input repeats.
        result = run(model)
        assert result.exit_code == 3, result.stderr
        assert "0 of 3 convolutions use reuse" in result.stdout
        assert files(model.parent) == ["net.onnx", "net.reuse.onnx"]

    def test_the_papers_setting_is_one_flag_away(self, run: Run, model: Path) -> None:
        result = run(model, "--family", "sign")
        assert result.exit_code == 0, result.stderr
        assert files(model.parent) == ["net.onnx", "net.reuse.onnx"]
        output = model.with_name("net.reuse.onnx")
        assert "ReuseConv" in operators(output)
        assert reuse_compiler.session(output).run(None, {"x": X})[0].shape == (4, 10)
        assert "convolutions use reuse" in result.stdout and f"written to    {output}" in result.stdout
        assert "dynamic dimensions are assumed: x[0] (N) = 1" in result.stderr

    def test_the_table_shows_what_the_report_holds(self, run: Run, model: Path) -> None:
        result = run(model, "--family", "sign", "--force", "-H", 6, "--report", model.with_name("r.json"))
        assert result.exit_code == 0
        report = ModelReport.model_validate_json(model.with_name("r.json").read_text())
        lines = result.stdout.splitlines()
        for layer, line in zip(report.layers, lines[1:], strict=False):
            assert line.split()[:6] == [layer.name, "reuse", layer.layout, "sign", str(layer.L), "6"]
            assert layer.r_c is not None and 0 < layer.r_c <= 1
            assert layer.output_error is not None and 0 < layer.output_error < 2
            assert layer.predicted_cost is not None and layer.N and layer.K and layer.M
        assert [layer.name for layer in report.layers] == ["conv1", "conv2", "conv3"]
        assert report.rel_error and report.max_abs_error and report.dense_ms and report.reuse_ms
        assert (report.threads, report.options["num_hashes"]) == (1, 6)
        assert {"reuse-compiler", "operators", "onnxruntime", "onnx", "numpy"} <= set(report.versions)

    def test_exact_gives_the_original_result(self, run: Run, model: Path) -> None:
        result = run(model, "--family", "exact", "--force", "--report", model.with_name("r.json"))
        assert result.exit_code == 0
        report = json.loads(model.with_name("r.json").read_text())
        assert report["rel_error"] < 1e-5
        ours = reuse_compiler.session(model.with_name("net.reuse.onnx")).run(None, {"x": X})[0]
        np.testing.assert_allclose(ours, dense_result(model), rtol=1e-3, atol=1e-4)

    def test_staged_equals_fused(self, run: Run, model: Path) -> None:
        results: list[np.ndarray] = []
        for lowering in ("fused", "staged"):
            output = model.with_name(f"{lowering}.onnx")
            assert run(model, "-o", output, "--force", "--lowering", lowering).exit_code == 0
            results.append(reuse_compiler.session(output).run(None, {"x": X})[0])
        assert operators(model.with_name("staged.onnx"))[:4] == ["Hash", "Cluster", "CentroidGemm", "Gather"]
        np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)

    def test_every_flag_reaches_the_compiler(self, run: Run, model: Path) -> None:
        report = model.with_name("r.json")
        flags = "--family sign -L 3 -H 7 --scope image --layout patch --lowering staged --capacity 0.5"
        flags += " --distance angular --seed 9 --force --layers conv[12] --exclude 2 --shape x:2,3,12,12 --threads 2"
        result = run(model, *flags.split(), "--report", report)
        assert result.exit_code == 0, result.stderr
        read = ModelReport.model_validate_json(report.read_text())
        first, second, third = read.layers
        chosen = (first.decision, first.family, first.layout, first.L, first.H, first.scope, first.N)
        assert chosen == ("reuse", "sign", "patch", 3, 7, "image", 2 * 12 * 12)
        assert (second.decision, second.reason) == ("dense", "its name matches --exclude '2'")
        assert (third.decision, third.reason) == ("dense", "its name does not match --layers 'conv[12]'")
        given = {"lowering": "staged", "capacity": 0.5, "distance": "angular", "seed": 9, "num_hashes": 7}
        given["shapes"] = {"x": [2, 3, 12, 12]}
        assert read.options | given == read.options
        assert read.threads == 2 and read.verified_on == "random normal input x [2, 3, 12, 12], seed 9"

    def test_flags_of_clusters_across_runs_reach_the_compiler(self, run: Run, model: Path) -> None:
        report = model.with_name("r.json")
        flags = "--scope session --memory 1000 --table-memory 3 --family sign -L 3 -H 7 --force --no-verify"
        assert run(model, *flags.split(), "--report", report).exit_code == 0
        read = ModelReport.model_validate_json(report.read_text())
        assert {layer.scope for layer in read.layers} == {"session"}
        assert (read.options["memory"], read.options["table_memory"], read.table_bytes) == (1000, 3, 0)
        settings = next(e for e in onnx.load(model.with_name("net.reuse.onnx")).metadata_props if "layers" in e.key)
        assert {each["memory"] for each in json.loads(settings.value).values()} == {1000}

    def test_flags_of_held_inputs_reach_the_compiler(self, run: Run, model: Path) -> None:
        report = model.with_name("r.json")
        flags = "--hold 1,2,3 --hold-opening 4 --hold-dilation 5 --hold-patience 6 --family exact --force --no-verify"
        result = run(model, *flags.split(), "--report", report)
        assert result.exit_code == 0, result.stderr
        assert "pixels of 'x' that differ by up to 1, 2, 3 keep their value" in result.stdout
        hold = ModelReport.model_validate_json(report.read_text()).hold
        assert hold is not None and (hold.tolerances, hold.opening, hold.dilation) == ((1, 2, 3), 4, 5)
        (node,) = [node for node in onnx.load(model.with_name("net.reuse.onnx")).graph.node if node.op_type == "Hold"]
        values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        assert values == {"tolerances": [1, 2, 3], "opening": 4, "dilation": 5, "patience": 6, "axis": 1}
        result = run(model, "--hold", "much", "--overwrite")
        assert result.exit_code == 2 and "--hold" in result.stderr

    def test_scope_static_needs_what_calibration_finds(self, run: Run, model: Path) -> None:
        result = run(model, "--scope", "static", "--family", "sign", "-H", "7")
        assert result.exit_code == 2 and "reuse-calibrate --scope static finds them" in result.stderr

    def test_int8_tables_are_reported(self, run: Run, model: Path) -> None:
        report = model.with_name("r.json")
        result = run(model, "--table", "int8", "--family", "exact", "--force", "--report", report)
        assert result.exit_code == 0, result.stderr
        read = ModelReport.model_validate_json(report.read_text())
        assert {layer.table for layer in read.layers} == {"int8"}
        assert read.rel_error is not None and 1e-4 < read.rel_error < 0.05

    def test_a_seed_repeats_the_result(self, run: Run, model: Path) -> None:
        outputs = [model.with_name(f"{i}.onnx") for i in range(3)]
        for output, seed in zip(outputs, (1, 1, 2), strict=True):
            assert run(model, "-o", output, "--family", "sign", "--force", "--seed", seed, "--no-verify").exit_code == 0
        same, again, other = (output.read_bytes() for output in outputs)
        assert same == again != other

    def test_a_configuration_decides_by_layer(self, run: Run, model: Path) -> None:
        config, report = model.with_name("c.json"), model.with_name("r.json")
        config.write_text('{"layers": {"conv2": {"layout": "channel", "L": 4, "H": 3}}}')
        result = run(model, "--config", config, "--report", report)
        assert result.exit_code == 0, result.stderr
        decisions = [(layer["decision"], layer["L"], layer["H"]) for layer in json.loads(report.read_text())["layers"]]
        assert decisions == [("dense", None, None), ("reuse", 4, 3), ("dense", None, None)]

    def test_a_configurations_seed_counts_unless_one_is_given(self, run: Run, model: Path) -> None:
        hashes = []
        for index, (own, flags) in enumerate([(1, []), (2, []), (2, ["--seed", 1]), (0, []), (1, ["--seed", 0])]):
            config, output = model.with_name("c.json"), model.with_name(f"{index}.onnx")
            config.write_text(f'{{"seed": {own}, "layers": {{"conv2": {{"layout": "channel", "L": 4, "H": 3}}}}}}')
            assert run(model, "-o", output, "--config", config, "--no-verify", *flags).exit_code == 0
            hashes.append(b"".join(tensor.raw_data for tensor in onnx.load(output).graph.initializer))
        assert hashes[0] == hashes[2] != hashes[1]
        assert hashes[3] == hashes[4] != hashes[0]

    def test_settings_are_in_the_metadata(self, run: Run, model: Path) -> None:
        run(model, "--force")
        metadata = {entry.key: entry.value for entry in onnx.load(model.with_name("net.reuse.onnx")).metadata_props}
        assert set(json.loads(metadata["reuse.layers"])) == {"conv1", "conv2", "conv3"}


class TestNothingToRewrite:
    @pytest.mark.parametrize("flags", [["--layers", "no such layer"], ["--exclude", "."]])
    def test_the_same_graph_is_written(self, run: Run, model: Path, flags: list[str]) -> None:
        result = run(model, *flags)
        assert result.exit_code == 3
        assert onnx.load(model.with_name("net.reuse.onnx")) == onnx.load(model)
        assert "0 of 3 convolutions use reuse" in result.stdout
        assert "net.reuse.onnx, which computes as the original does" in result.stdout

    def test_a_model_without_convolutions(self, run: Run, tmp_path: Path) -> None:
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
        onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
        result = run(tmp_path / "net.onnx")
        assert result.exit_code == 3 and "the model has no convolution, so there is nothing to rewrite" in result.stdout


class TestDryRun:
    def test_writes_and_runs_nothing(self, run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REUSE_LIBRARY", "/no/such/library")
        result = run(model, "--dry-run", "--force")
        assert result.exit_code == 0, result.stderr
        assert files(model.parent) == ["net.onnx"]
        assert "3 of 3 convolutions use reuse" in result.stdout and "nothing was written" in result.stdout

    def test_may_report_and_does_not_mind_an_existing_output(self, run: Run, model: Path) -> None:
        model.with_name("net.reuse.onnx").write_text("precious")
        result = run(model, "--dry-run", "--report", model.with_name("r.json"), "--layers", "none")
        assert result.exit_code == 3
        read = json.loads(model.with_name("r.json").read_text())
        assert read["output"] is None and read["rel_error"] is None
        assert model.with_name("net.reuse.onnx").read_text() == "precious"


class TestVerification:
    def test_on_arrays(self, run: Run, model: Path) -> None:
        np.savez(model.with_name("d.npz"), x=X)
        report = model.with_name("r.json")
        result = run(model, "--force", "--verify-data", model.with_name("d.npz"), "--report", report)
        assert result.exit_code == 0, result.stderr
        assert json.loads(report.read_text())["verified_on"] == "4 runs of x [1, 3, 12, 12] from d.npz"
        assert "dynamic dimensions are assumed" not in result.stderr, "the data told the sizes"
        assert "random" not in result.stdout

    def test_in_batches_of_the_shape(self, run: Run, model: Path) -> None:
        np.save(model.with_name("d.npy"), X)
        report = model.with_name("r.json")
        data = ["--verify-data", model.with_name("d.npy"), "--shape", "x:2,3,12,12"]
        assert run(model, "--force", "--report", report, *data).exit_code == 0
        read = json.loads(report.read_text())
        assert read["verified_on"] == "2 runs of x [2, 3, 12, 12] from d.npy"
        assert read["layers"][0]["N"] == 2 * 12 * 12

    def test_on_photos(self, run: Run, model: Path) -> None:
        image = pytest.importorskip("PIL.Image", reason="Pillow (extra `images`) is not installed")
        photos = model.with_name("photos")
        photos.mkdir()
        for index in range(2):
            pixels = np.random.default_rng(index).integers(0, 256, (20, 20, 3), np.uint8)
            image.fromarray(pixels).save(photos / f"{index}.png")
        (photos / "preprocessing.json").write_text('{"size": [12, 12], "mean": [0.5], "std": [0.25]}')
        result = run(model, "--force", "--verify-data", photos)
        assert result.exit_code == 0, result.stderr
        assert "measured on   2 runs of x [1, 3, 12, 12] from the photos in photos" in result.stdout

    def test_sizes_that_were_guessed_wrong(self, run: Run, tmp_path: Path, network: onnx.ModelProto) -> None:
        """The classifier takes 12x12 pixels only, but the input leaves height and width open."""
        dynamic = onnx.ModelProto()
        dynamic.CopyFrom(network)
        for axis, name in ((2, "h"), (3, "w")):
            dynamic.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
        del dynamic.graph.value_info[:]
        onnx.save(dynamic, tmp_path / "net.onnx")
        result = run(tmp_path / "net.onnx", "--force")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("error: the original model does not run: ")
        assert "were guessed, give those you use: --shape x:1,3,224,224" in result.stderr
        assert files(tmp_path) == ["net.onnx"]
        assert run(tmp_path / "net.onnx", "--force", "--shape", "x:1,3,12,12").exit_code == 0

    @pytest.mark.parametrize("slower", [True, False])
    def test_what_is_slower_by_more_than_the_noise_is_said(
        self, run: Run, model: Path, slower: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("reuse_compiler.verification.verify.is_slower", lambda *_: slower)
        result = run(model, "--force", "--lowering", "staged", "--family", "exact")
        assert result.exit_code == 0 and ("slower than the original" in result.stderr) == slower
        assert ("--exclude" in result.stderr) == slower

    def test_a_large_error_is_said(self, run: Run, model: Path) -> None:
        result = run(model, "--family", "sign", "--force", "-H", 1)
        assert "the output differs much from the original's" in result.stderr and "--exclude" in result.stderr
        assert "differs much" not in run(model, "--force", "--family", "exact", "--overwrite").stderr

    def test_can_be_left_out(self, run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REUSE_LIBRARY", "/no/such/library")
        refused = run(model, "--force")
        assert refused.exit_code == 1 and "REUSE_LIBRARY names" in refused.stderr
        assert files(model.parent) == ["net.onnx"]
        result = run(model, "--force", "--no-verify")
        assert result.exit_code == 0 and "measured on" not in result.stdout
        assert "ReuseConv" in operators(model.with_name("net.reuse.onnx"))


class TestExternalData:
    def test_is_compiled_and_leaves_no_temporary_file(self, run: Run, tmp_path: Path, network: onnx.ModelProto) -> None:
        source, target = tmp_path / "in", tmp_path / "out"
        source.mkdir()
        target.mkdir()
        copy = onnx.ModelProto()
        copy.CopyFrom(network)
        onnx.save(copy, source / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
        result = run(source / "net.onnx", "-o", target / "net.onnx", "--force", "--family", "exact")
        assert result.exit_code == 0, result.stderr
        assert files(source) == ["net.bin", "net.onnx"]
        assert all(name.startswith("net.onnx") for name in files(target))
        (source / "net.bin").unlink()
        session = reuse_compiler.session(target / "net.onnx")
        onnx.save(network, source / "net.onnx")
        np.testing.assert_allclose(
            session.run(None, {"x": X})[0], dense_result(source / "net.onnx"), rtol=1e-3, atol=1e-4
        )


class TestHelp:
    def test_teaches(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        result = run("--help")
        assert result.exit_code == 0
        flags = "-o --config --layers --exclude --family -L -H --scope --layout --lowering --capacity --force --dry-run"
        flags += " --overwrite --verify-data --report --log-level --shape --threads --seed --[no-]verify"
        flags += " --version --env --calibration-data --labels --metric --max-drop --at-least"
        assert [flag for flag in flags.split() if flag not in result.stdout] == []
        for words in (
            "More examples",
            "Which layers",
            "Verification",
            "Exit codes",
            "reuse-compile net.onnx --dry-run",
        ):
            assert words in result.stdout

    def test_versions(self, run: Run) -> None:
        result = run("--version")
        assert result.exit_code == 0
        assert f"reuse-compiler {reuse_compiler.__version__}" in result.stdout
        assert f"onnxruntime {onnxruntime.__version__}" in result.stdout


def test_weights_are_unchanged(run: Run, model: Path) -> None:
    run(model, "--force")
    before, after = (onnx.load(path).graph.initializer for path in (model, model.with_name("net.reuse.onnx")))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in after}
    assert all(np.array_equal(weights[tensor.name], numpy_helper.to_array(tensor)) for tensor in before)
