"""`reuse-calibrate` and `reuse-compile --calibration-data` from flags to files, and data that is no use."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import Result

import reuse_compiler
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.cli.calibrate import app
from reuse_compiler.report import ModelReport
from reuse_compiler.reuse.config import ReuseConfig
from tests.running import run_command

Run = Callable[..., Result]
FAILURE, USAGE, NO_GAIN, OVER_BUDGET = 1, 2, 3, 4
SAMPLES = 12


@pytest.fixture
def calibrate() -> Run:
    """Runs `reuse-calibrate` with the given arguments."""
    return partial(run_command, app)


@pytest.fixture
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples and labels in a folder of their own: a few plain squares each, so that vectors repeat."""
    rng = np.random.default_rng(0)
    squares = rng.standard_normal((SAMPLES, 3, 3, 3)).astype(np.float32)
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "d.npz", x=squares.repeat(4, axis=2).repeat(4, axis=3))
    np.save(folder / "l.npy", rng.integers(0, 10, SAMPLES))
    return folder / "d.npz"


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def assert_refused(result: Result, code: int, message: str) -> None:
    assert result.exit_code == code, (result.stdout, result.stderr)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], result.stderr
    assert result.stdout == ""


QUICK = ("--budget", "quick", "--batch", "2")


class TestRuns:
    def test_reuse_compile_takes_the_result(self, calibrate: Run, run: Run, model: Path, data: Path) -> None:
        result = calibrate(model, "--data", data, *QUICK, "--metric", "cosine", "--max-drop", 0.2)
        assert result.exit_code in (0, NO_GAIN), result.stderr
        output = model.with_name("net.reuse.json")
        assert (result.exit_code == NO_GAIN) == (not ReuseConfig.load(output).layers)
        assert f"written to    {output}" in result.stdout
        compiled = run(model, "--config", output, "--verify-data", data, "--shape", "x:2,3,12,12")
        assert compiled.exit_code == result.exit_code, compiled.stderr

    def test_every_flag_reaches_the_calibration(self, calibrate: Run, model: Path, data: Path) -> None:
        folder, output = model.with_name("report"), model.with_name("c.json")
        flags = "--metric agreement --at-least 0.1 --objective operations --strategy papers --reconstruct statistics"
        flags += " --family sign --scope image --budget quick --layers conv[12] --exclude 2 --holdout 0.25 --threads 2"
        flags += " --seed 9 --shape x:3,3,12,12 --table-memory 100 --stream"
        result = calibrate(model, "--data", data, *flags.split(), "-o", output, "--report", folder)
        assert result.exit_code in (0, NO_GAIN), result.stderr
        report = CalibrationReport.model_validate_json((folder / "report.json").read_text())
        given: dict[str, Any] = {
            "metric": "agreement", "at_least": 0.1, "max_drop": None, "objective": "operations", "strategy": "papers",
            "reconstruct": "statistics", "family": "sign", "scope": "image", "budget": "quick", "layers": "conv[12]",
            "exclude": "2", "holdout": 0.25, "threads": 2, "seed": 9, "shapes": {"x": [3, 3, 12, 12]},
            "table_memory": 100, "stream": True,
        }  # fmt: skip
        assert report.options | given == report.options
        assert report.data == "4 runs of x [3, 3, 12, 12] from d.npz" and report.output == str(output)
        assert {layer.name: layer.decision for layer in report.layers} | {"conv2": "dense", "conv3": "dense"} == {
            layer.name: layer.decision for layer in report.layers
        }
        assert output.is_file() and (folder / "report.html").is_file()
        assert f"report in     {folder}" in result.stdout

    def test_a_scope_of_compiling_that_depends_on_earlier_runs_is_not_calibrated(
        self, run: Run, model: Path, data: Path
    ) -> None:
        before = files(model.parent)
        result = run(model, "--calibration-data", data, "--scope", "session", "--shape", "x:2,3,12,12")
        assert "--scope session cannot be calibrated" in result.stderr and files(model.parent) == before

    def test_compiles_at_once(self, run: Run, model: Path, data: Path) -> None:
        flags = ["--calibration-data", data, "--labels", data.with_name("l.npy"), "--max-drop", 0.9]
        report = model.with_name("r.json")
        result = run(model, *flags, "--shape", "x:2,3,12,12", "--report", report)
        assert result.exit_code in (0, NO_GAIN), result.stderr
        assert {"net.onnx", "net.reuse.json", "net.reuse.onnx", "r.json"} <= set(files(model.parent))
        outputs = reuse_compiler.session(model.with_name("net.reuse.onnx")).run(None, {"x": np.load(data)["x"]})
        assert outputs[0].shape == (SAMPLES, 10)
        config = ReuseConfig.load(model.with_name("net.reuse.json"))
        read = ModelReport.model_validate_json(report.read_text())
        assert [layer.name for layer in read.layers if layer.decision == "reuse"] == list(config.layers)
        if config.layers:
            assert read.verified_on == "6 runs of x [2, 3, 12, 12] from d.npz"


@pytest.fixture
def broken(data: Path) -> list[object]:
    """Flags of a metric by which reuse loses all on the samples held out, which are those labelled 1, and nothing else.

    Layers are chosen by operations: times, which differ from run to run, have no part in it.
    """
    [first] = np.random.default_rng(0).permutation(SAMPLES // 2)[:1]  # as calibration/samples.py deals the runs out
    np.save(data.with_name("l.npy"), (np.arange(SAMPLES) // 2 == first).astype(np.int64))
    script = data.with_name("score.py")
    script.write_text(
        "def f(expected, actual, labels):\n"
        "    return 0.0 if labels.any() and any((expected[n] != actual[n]).any() for n in expected) else 1.0\n"
    )
    return ["--labels", data.with_name("l.npy"), "--metric", f"python:{script}:f"]


class TestBrokenBudget:
    def test_calibration_has_an_exit_code_of_its_own(
        self, calibrate: Run, model: Path, data: Path, broken: list[object]
    ) -> None:
        flags = [*broken, *QUICK, "--objective", "operations", "--holdout", 0.1]
        result = calibrate(model, "--data", data, *flags)
        assert result.exit_code == OVER_BUDGET, (result.stdout, result.stderr)
        assert "on the held-out data the accuracy budget is not kept" in result.stderr
        assert "MORE THAN THE BUDGET ALLOWS" in result.stdout
        assert ReuseConfig.load(model.with_name("net.reuse.json")).layers


class TestFiles:
    def test_what_exists_is_kept(self, calibrate: Run, run: Run, model: Path, data: Path) -> None:
        config = model.with_name("net.reuse.json")
        config.write_text("precious")
        assert_refused(calibrate(model, "--data", data, *QUICK), FAILURE, "net.reuse.json exists already")
        assert_refused(run(model, "--calibration-data", data), FAILURE, "net.reuse.json exists already")
        assert config.read_text() == "precious" and files(model.parent) == ["net.onnx", "net.reuse.json"]

    def test_an_impossible_result_is_refused_before_the_calibration(self, run: Run, model: Path, data: Path) -> None:
        flags = ["--calibration-data", data]
        assert_refused(run(model, *flags, "-o", model), USAGE, "is the model itself")
        assert_refused(run(model, *flags, "--verify-data", "missing.npz"), FAILURE, "there is no sample data at")
        assert_refused(run(model, *flags, "--at-least", 1.5), USAGE, "no model has more than 1 of the metric agreement")
        assert_refused(run(model, *flags, "--metric", "psnr"), USAGE, "give --at-least, as in --at-least 35")
        assert_refused(run(model, *flags, "-L", 4, "--force"), USAGE, "-L and --force cannot be used with")
        assert_refused(run(model, *flags, "--config", "c.json"), USAGE, "--config cannot be used with")
        assert files(model.parent) == ["net.onnx"]


class TestBadData:
    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"y": np.zeros((9, 3, 12, 12), np.float32)}, "has no array for the input 'x'"),
            ({"x": np.zeros((9, 3, 13, 12), np.float32)}, "[1, 3, 13, 12] does not fit the input 'x'"),
            ({"x": np.zeros((9, 3, 12, 12), np.int64)}, "type int64 does not fit"),
            ({"x": np.zeros((0, 3, 12, 12), np.float32)}, "no sample"),
            ({"x": np.zeros((2, 3, 12, 12), np.float32)}, "at least 3 runs of the model"),
        ],
    )
    def test_arrays(self, calibrate: Run, model: Path, data: Path, arrays: dict[str, Any], message: str) -> None:
        np.savez(data, **arrays)
        assert_refused(calibrate(model, "--data", data), FAILURE, message)
        assert files(model.parent) == ["net.onnx"]

    def test_folders_without_photos(self, calibrate: Run, model: Path, data: Path) -> None:
        folder = data.parent / "photos"
        folder.mkdir()
        assert_refused(calibrate(model, "--data", folder), FAILURE, "holds no sample data: no .npz")
        pytest.importorskip("PIL.Image", reason="Pillow (extra `images`) is not installed")
        (folder / "preprocessing.json").write_text("{}")
        assert_refused(calibrate(model, "--data", folder), FAILURE, "has a preprocessing.json but no photo")

    @pytest.mark.parametrize(
        ("labels", "code", "message"),
        [
            (np.zeros(5, np.int64), FAILURE, f"has 5 labels, but the data has {SAMPLES} samples"),
            (np.zeros(SAMPLES), FAILURE, "labels are integers"),
            (np.full(SAMPLES, 10), FAILURE, "do not fit the 10 classes of the output 'logits'"),
        ],
    )
    def test_labels(self, calibrate: Run, model: Path, data: Path, labels: np.ndarray, code: int, message: str) -> None:
        np.save(data.with_name("l.npy"), labels)
        assert_refused(calibrate(model, "--data", data, "--labels", data.with_name("l.npy")), code, message)
        assert files(model.parent) == ["net.onnx"]

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--metric", "accuracy"], "there is no metric 'accuracy'"),
            (["--metric", "top1"], "top1 needs the right classes: give --labels"),
            (["--metric", "psnr"], "give --at-least, as in --at-least 35"),
            (["--metric", "iou:0.4,70"], "finds no such channel in the output 'logits'"),
            (["--at-least", "1.5"], "no model has more than 1 of the metric agreement"),
            (["--at-least", "0.5", "--max-drop", "0.1"], "give one of them"),
            (["--shape", "y:1,3,12,12"], "the model has no such input"),
        ],
    )
    def test_metrics_and_wishes(self, calibrate: Run, model: Path, data: Path, flags: list[str], message: str) -> None:
        assert_refused(calibrate(model, "--data", data, *flags), USAGE, message)
        assert files(model.parent) == ["net.onnx"]

    def test_a_metric_that_raises(self, calibrate: Run, model: Path, data: Path) -> None:
        script = data.with_name("score.py")
        script.write_text("def f(expected, actual, labels):\n    return expected['heat']\n")
        result = calibrate(model, "--data", data, "--metric", f"python:{script}:f")
        assert_refused(result, USAGE, "score.py:f raises KeyError: 'heat' (score.py, line 2)")

    def test_a_reader_that_raises(self, calibrate: Run, model: Path, data: Path) -> None:
        script = data.with_name("reader.py")
        script.write_text("def load_data():\n    raise OSError('no camera')\n")
        assert_refused(calibrate(model, "--data", script), FAILURE, "raises OSError: no camera (reader.py, line 2)")

    def test_an_original_that_is_worse_than_asked_for(self, calibrate: Run, model: Path, data: Path) -> None:
        flags = ["--labels", data.with_name("l.npy"), "--at-least", "1", *QUICK]
        assert_refused(calibrate(model, "--data", data, *flags), USAGE, "the original model itself has top1")

    def test_a_model_without_convolutions(self, calibrate: Run, tmp_path: Path) -> None:
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
        onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
        np.save(tmp_path / "d.npy", np.zeros((9, 2), np.float32))
        result = calibrate(tmp_path / "net.onnx", "--data", tmp_path / "d.npy")
        assert result.exit_code == FAILURE and "no Conv" in result.stderr
        assert files(tmp_path) == ["d.npy", "net.onnx"]


def test_the_same_seed_tries_the_same_choices(calibrate: Run, model: Path, data: Path) -> None:
    """By operations, since times differ from run to run."""
    layers = []
    for name in ("a", "b"):
        flags = ["--objective", "operations", "--max-drop", 0.5, "--seed", 3, "-o", model.with_name(f"{name}.json")]
        assert calibrate(model, "--data", data, *QUICK, *flags).exit_code in (0, NO_GAIN)
        layers.append(json.loads(model.with_name(f"{name}.json").read_text())["layers"])
    assert layers[0] == layers[1]
