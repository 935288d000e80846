"""Wrong flags, models, configurations, data and places: one sentence on stderr, an exit code, nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import Result

Run = Callable[..., Result]
FAILURE, USAGE = 1, 2


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def assert_refused(run: Run, code: int, message: str, *arguments: object) -> None:
    """Runs the command and checks exit code, the one sentence on stderr and that stdout stays empty."""
    result = run(*arguments)
    assert result.exit_code == code, (result.stdout, result.stderr)
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and lines[-1] == errors[0], result.stderr
    assert all(line.startswith(("error: ", "warning: ")) for line in lines), result.stderr
    assert message in errors[0]
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-L", "0"], "-L"),
        (["-L", "x"], "-L"),
        (["-H", "0"], "-H"),
        (["-H", "65"], "-H"),
        (["--capacity", "0"], "--capacity: "),
        (["--capacity", "1.5"], "capacity"),
        (["--family", "kmeans"], "family"),
        (["--scope", "galaxy"], "scope"),
        (["--layers", "("], "--layers: '(' is not a regular expression"),
        (["--exclude", "*"], "--exclude: '*' is not a regular expression"),
        (["--shape", "1,3,12,12"], "'--shape': '1,3,12,12' is not NAME:SIZES, as in images:1,3,224,224"),
        (["--shape", "x:1,3,a"], "is not NAME:SIZES"),
        (["--shape", "x:1,3,0,12"], "is not NAME:SIZES"),
        (["--shape", "x:1,3,12,12", "--shape", "x:2,3,12,12"], "two different shapes for the input 'x'"),
        (["--shape", "y:1,3,12,12"], "the model has no such input"),
        (["--shape", "x:1,3,12"], "3 dimensions given"),
        (["--shape", "x:1,4,12,12"], "dimension 1 is 4"),
        (["--threads", "0"], "--threads"),
        (["--seed", "-1"], "--seed"),
        (["--log-level", "loud"], "log-level"),
        (["--no-such-flag"], "--no-such-flag"),
        (["second.onnx"], "second.onnx"),
        (["--family", "learned", "--force"], "learned"),
    ],
)
def test_wrong_flags(run: Run, model: Path, flags: list[str], message: str) -> None:
    assert_refused(run, USAGE, message, model, *flags)
    assert files(model.parent) == ["net.onnx"]


def test_no_model(run: Run) -> None:
    assert_refused(run, USAGE, "MODEL")


class TestModels:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: b"this is not an ONNX model",
            lambda content: b"\x89PNG\r\n\x1a\n" + bytes(100),
            lambda content: content[: len(content) // 2],
            lambda content: content[:-1],
            lambda content: content[: len(content) - 200],
            lambda content: bytes(1000),
        ],
        ids=["empty", "text", "png", "half", "one byte less", "200 bytes less", "zeros"],
    )
    def test_truncated_and_foreign_files(self, run: Run, model: Path, damage: Callable[[bytes], bytes]) -> None:
        model.write_bytes(damage(model.read_bytes()))
        assert_refused(run, FAILURE, str(model), model)
        assert files(model.parent) == ["net.onnx"]

    def test_missing_file_and_folder(self, run: Run, tmp_path: Path) -> None:
        assert_refused(run, FAILURE, "cannot read the model", tmp_path / "missing.onnx")
        assert_refused(run, FAILURE, "cannot read the model", tmp_path)
        assert_refused(run, FAILURE, "cannot read the model .: ", "")

    def test_missing_and_truncated_external_data(self, run: Run, model: Path, network: onnx.ModelProto) -> None:
        copy = onnx.ModelProto()
        copy.CopyFrom(network)
        onnx.save(copy, model, save_as_external_data=True, location="net.bin", size_threshold=0)
        data = model.with_name("net.bin")
        data.write_bytes(data.read_bytes()[:-100])
        assert_refused(run, FAILURE, "'net.bin' is truncated", model)
        data.unlink()
        assert_refused(run, FAILURE, "'net.bin' of tensor 'conv1.weight' is missing", model)
        assert files(model.parent) == ["net.onnx"]

    def test_models_that_onnxruntime_refuses(self, run: Run, model: Path, network: onnx.ModelProto) -> None:
        broken = onnx.ModelProto()
        broken.CopyFrom(network)
        broken.graph.node[-1].op_type = "NoSuchOperator"
        onnx.save(broken, model)
        assert_refused(run, FAILURE, "onnxruntime cannot load the original model: ", model, "--force")
        assert files(model.parent) == ["net.onnx"]

    def test_names_that_are_not_utf_8(self, run: Run, model: Path) -> None:
        model.write_bytes(model.read_bytes().replace(b"conv1", b"con\xff1"))
        assert_refused(run, FAILURE, "UTF-8", model, "--force")
        assert files(model.parent) == ["net.onnx"]

    def test_names_that_would_steer_the_terminal(self, run: Run, model: Path) -> None:
        model.write_bytes(model.read_bytes().replace(b"conv1", b"\x1b[2J1"))
        result = run(model, "--force", "--log-level", "info")
        assert result.exit_code == 0 and "\x1b" not in result.stdout + result.stderr
        assert r"\x1b[2J1" in result.stdout


class TestConfigurations:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("layers: conv1", "is not valid JSON"),
            ("[]", "c.json: "),
            (
                '{"layers": {"conv_1": {"layout": "patch", "L": 4, "H": 4}}}',
                "which the model does not have; did you mean 'conv",
            ),
            ('{"layers": {"conv1": {"layout": "patch", "L": 0, "H": 4}}}', "layers.conv1.L: "),
            ('{"layers": {"conv1": {"layout": "patch", "L": 4, "H": 65}}}', "layers.conv1.H: "),
            ('{"layers": {"conv1": {"layout": "patch", "L": 4}}}', "layers.conv1.H: Field required"),
            ('{"layers": {"conv1": {"layout": "patch", "L": 4, "H": 4, "x": 1}}}', "layers.conv1.x: "),
            ('{"layers": {"conv1": {"layout": "channel", "L": 4, "H": 4}}}', "L=4 is larger than the 3 channels"),
            ('{"layers": {"conv1": {"family": "learned", "layout": "patch", "L": 4, "H": 4}}}', "needs trees fitted"),
            ('{"version": 2}', "version: "),
            ('{"parameters_file": "missing.npz"}', "missing.npz"),
        ],
    )
    def test_wrong_content(self, run: Run, model: Path, content: str, message: str) -> None:
        config = model.with_name("c.json")
        config.write_text(content)
        assert_refused(run, USAGE, message, model, "--config", config)
        assert files(model.parent) == ["c.json", "net.onnx"]

    def test_files_that_cannot_be_read(self, run: Run, model: Path) -> None:
        missing = model.with_name("missing.json")
        assert_refused(run, USAGE, f"the configuration {missing} cannot be read", model, "--config", missing)
        assert_refused(run, USAGE, "is not a JSON text file", model, "--config", _binary(model.with_name("b.json")))

    def test_flags_that_a_configuration_makes_meaningless(self, run: Run, model: Path) -> None:
        config = model.with_name("c.json")
        config.write_text('{"layers": {"conv2": {"layout": "channel", "L": 4, "H": 3}}}')
        assert_refused(run, USAGE, "-L cannot be used with --config", model, "--config", config, "-L", 4)


class TestPlaces:
    def test_existing_output(self, run: Run, model: Path) -> None:
        output = model.with_name("net.reuse.onnx")
        output.write_text("precious")
        assert_refused(run, FAILURE, "pass --overwrite", model)
        assert output.read_text() == "precious"
        assert run(model, "--overwrite", "--force").exit_code == 0
        assert onnx.load(output).graph.name == "small"

    @pytest.mark.parametrize("flags", [[], ["--overwrite"]])
    @pytest.mark.parametrize("place", ["file/out.onnx", "missing/out.onnx", "folder"])
    def test_impossible_outputs(self, run: Run, model: Path, place: str, flags: list[str]) -> None:
        """A path below a file cannot be written by anybody, root included."""
        model.with_name("file").write_text("")
        model.with_name("folder").mkdir()
        before = files(model.parent)
        obstacle = str(model.parent / place).removesuffix("/out.onnx")
        assert_refused(run, FAILURE, obstacle, model, "-o", model.parent / place, *flags)
        assert files(model.parent) == before

    @pytest.mark.parametrize("flags", [[], ["--overwrite"], ["--overwrite", "--no-verify"]])
    def test_the_model_itself(self, run: Run, model: Path, flags: list[str]) -> None:
        content = model.read_bytes()
        link, hard_link = model.with_name("link.onnx"), model.with_name("hard.onnx")
        link.symlink_to(model)
        hard_link.hardlink_to(model)
        for output in (model, model.parent / "." / ".." / model.parent.name / "net.onnx", link, hard_link):
            assert_refused(run, USAGE, "is the model itself", model, "-o", output, *flags)
        assert model.read_bytes() == content

    def test_links_that_lead_in_a_circle(self, run: Run, model: Path) -> None:
        circle = model.with_name("circle")
        circle.symlink_to(circle)
        assert_refused(run, FAILURE, "circle", circle)
        assert_refused(run, USAGE, "circle", model, "--config", circle)
        for flag, place in (("--verify-data", circle), ("--report", circle / "r"), ("-o", circle / "o")):
            assert_refused(run, FAILURE, "circle", model, flag, place)
        (model.parent / "c.npz").symlink_to(model.parent / "c.npz")
        model.with_name("c.json").write_text('{"parameters_file": "c.npz"}')
        assert_refused(run, USAGE, "c.npz", model, "--config", model.with_name("c.json"))

    def test_reports(self, run: Run, model: Path) -> None:
        report = model.with_name("r.json")
        report.write_text("precious")
        assert_refused(run, FAILURE, "r.json exists already", model, "--report", report)
        assert_refused(run, USAGE, "would replace the model", model, "--report", model, "--overwrite")
        output = model.with_name("net.reuse.onnx")
        assert_refused(run, USAGE, "would replace the model", model, "--report", output, "--overwrite")
        assert_refused(run, FAILURE, "does not exist", model, "--report", model.parent / "missing" / "r.json")
        assert report.read_text() == "precious" and files(model.parent) == ["net.onnx", "r.json"]


class TestData:
    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"y": np.zeros((1, 3, 12, 12), np.float32)}, "has no array for the input 'x'; it has ['y']"),
            ({"x": np.zeros((1, 3, 13, 12), np.float32)}, "[1, 3, 13, 12] does not fit the input 'x' float32"),
            ({"x": np.zeros((1, 3, 12, 12), np.int64)}, "type int64 does not fit"),
            ({"x": np.zeros((0, 3, 12, 12), np.float32)}, "no sample"),
        ],
    )
    def test_arrays_that_do_not_fit(self, run: Run, model: Path, arrays: dict[str, Any], message: str) -> None:
        np.savez(model.with_name("d.npz"), **arrays)
        assert_refused(run, FAILURE, message, model, "--verify-data", model.with_name("d.npz"))
        assert files(model.parent) == ["d.npz", "net.onnx"]

    def test_broken_and_missing_files(self, run: Run, model: Path) -> None:
        missing = model.with_name("missing.npz")
        assert_refused(run, FAILURE, "there is no sample data", model, "--verify-data", missing)
        broken = _binary(model.with_name("b.npz"))
        assert_refused(run, FAILURE, "cannot be read as a NumPy file", model, "--verify-data", broken)
        folder = model.with_name("empty")
        folder.mkdir()
        assert_refused(run, FAILURE, "holds no sample data", model, "--verify-data", folder)


def _binary(path: Path) -> Path:
    path.write_bytes(bytes(range(256)))
    return path
