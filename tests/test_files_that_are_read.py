"""Files from anywhere: damaged ones are a sentence, and none that is read is ever replaced."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import reuse_compiler
from reuse_compiler.array_files import INFLATE_LIMIT, read_arrays
from reuse_compiler.calibrated import calibrate_and_compile
from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.labels import read_labels
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.cli.bench import app as bench_app
from reuse_compiler.cli.compile import app as compile_app
from reuse_compiler.compiler import compile_file
from reuse_compiler.errors import ConfigError, DataError, ModelError, OutputError, ReuseError
from reuse_compiler.graph import load_model
from reuse_compiler.json_files import JsonError, read_json
from reuse_compiler.options import CompileOptions
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.fitted import load_fitted
from tests.graph.external import save_with_data
from tests.passes.models import EXACT, conv_model, random_array, tensor

LAYER = {"family": "sign", "layout": "channel", "L": 4, "H": 3}


@pytest.fixture
def external(tmp_path: Path) -> Path:
    return save_with_data(conv_model(weights=(16, 8, 3, 3), shape=(1, 8, 16, 16)), tmp_path / "m.onnx", "w.bin")


class TestExternalData:
    """All use cases take models whose weights lie beside them, in a folder below, or behind links."""

    @pytest.mark.parametrize("location", ["w.bin", "below/w.bin"])
    def test_compiled_and_calibrated(self, location: str, tmp_path: Path) -> None:
        model = conv_model(weights=(16, 8, 3, 3), shape=(4, 8, 16, 16))
        path = save_with_data(model, tmp_path / "m.onnx", location)
        np.save(tmp_path / "x.npy", random_array(48, 8, 16, 16))
        report = compile_file(path, tmp_path / "out.onnx", EXACT, verify_data=tmp_path / "x.npy")
        assert report.layers[0].decision == "reuse" and report.rel_error is not None
        options = CalibrationOptions(budget="quick", metric="mse", max_drop=1.0)
        found = calibrate_file(path, tmp_path / "x.npy", tmp_path / "m.json", options)
        assert found.layers[0].name == "conv" and (tmp_path / "m.json").is_file()

    def test_links_as_in_a_cache_of_downloads(self, tmp_path: Path) -> None:
        blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
        blobs.mkdir()
        snapshot.mkdir(parents=True)
        plain = save_with_data(conv_model(), tmp_path / "m.onnx", "w.bin")
        plain.rename(blobs / "a")
        (tmp_path / "w.bin").rename(blobs / "b")
        (snapshot / "m.onnx").symlink_to("../../blobs/a")
        (snapshot / "w.bin").symlink_to("../../blobs/b")
        report = compile_file(snapshot / "m.onnx", tmp_path / "out.onnx", EXACT)
        assert report.layers[0].decision == "reuse"
        session = reuse_compiler.session(tmp_path / "out.onnx")
        assert session.run(None, {"x": random_array(1, 4, 8, 8)})[0].shape == (1, 6, 6, 6)

    def change(self, path: Path, key: str, value: str) -> None:
        model = onnx.load(path, load_external_data=False)
        entry = next(each for each in model.graph.initializer[0].external_data if each.key == key)
        entry.value = value
        path.write_bytes(model.SerializeToString())

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("length", "16", "has 16 bytes of external data, but its shape"),
            ("offset", "1000000", "is truncated"),
            ("offset", "-1", "offset is negative"),
            ("location", "w\0.bin", "location is no file name"),
            ("location", "..", "outside the model's folder"),
            ("location", "", "location is no file name"),
            ("location", ".", "not a regular file"),
            ("location", "x" * 5000, "is missing"),
        ],
    )
    def test_entries_that_do_not_fit(self, external: Path, key: str, value: str, message: str) -> None:
        self.change(external, key, value)
        with pytest.raises(ModelError, match=message):
            load_model(external)

    def test_a_location_that_is_no_text(self, external: Path) -> None:
        external.write_bytes(external.read_bytes().replace(b"w.bin", b"w\xffbin"))
        with pytest.raises(ModelError, match="location is no file name"):
            load_model(external)

    def test_a_name_that_begins_with_dots_lies_beside_the_model(self, tmp_path: Path) -> None:
        report = compile_file(save_with_data(conv_model(), tmp_path / "m.onnx", "..w.bin"), options=EXACT)
        assert report.layers[0].decision == "reuse"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    def test_a_pipe_is_not_waited_for(self, external: Path) -> None:
        (external.parent / "w.bin").unlink()
        os.mkfifo(external.parent / "w.bin")
        with pytest.raises(ModelError, match="not a regular file"):
            load_model(external)
        os.mkfifo(external.parent / "pipe.onnx")
        with pytest.raises(ModelError, match="not a regular file"):
            load_model(external.parent / "pipe.onnx")
        os.mkfifo(external.parent / "pipe.npy")
        with pytest.raises(DataError, match="no regular file"):
            read_arrays(external.parent / "pipe.npy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.dims.insert(0, 3), "bytes of data, but its shape"),
        (lambda t: t.dims.insert(0, -1), "negative extent"),
        (lambda t: t.ClearField("raw_data"), "has 0 values of data"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "bytes of data, but its shape"),
    ],
)
def test_tensors_whose_data_does_not_fit(
    change: Callable[[onnx.TensorProto], None], message: str, tmp_path: Path
) -> None:
    model = conv_model()
    change(model.graph.initializer[0])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "m.onnx")


class TestNothingThatIsReadIsReplaced:
    """Not even with overwrite, and by no other name."""

    def compile_onto(
        self, model: Path, output: Path, options: CompileOptions = EXACT, data: Path | None = None
    ) -> None:
        before = {file: file.read_bytes() for file in model.parent.rglob("*") if file.is_file()}
        with pytest.raises(ReuseError, match=r"is the model itself|which is read"):
            compile_file(model, output, options, overwrite=True, verify_data=data)
        assert {file: file.read_bytes() for file in model.parent.rglob("*") if file.is_file()} == before

    def test_external_data(self, external: Path) -> None:
        self.compile_onto(external, external.parent / "w.bin")
        (external.parent / "other.bin").symlink_to("w.bin")
        self.compile_onto(external, external.parent / "other.bin")

    def test_configuration_parameters_and_data(self, external: Path) -> None:
        folder = external.parent
        (folder / "c.json").write_text(json.dumps({"layers": {"conv": LAYER}, "parameters_file": "p.npz"}))
        np.savez(folder / "p.npz")
        np.save(folder / "x.npy", random_array(1, 8, 16, 16))
        for name in ("c.json", "p.npz", "x.npy"):
            self.compile_onto(external, folder / name, CompileOptions(config=folder / "c.json"), folder / "x.npy")

    def test_calibration(self, external: Path) -> None:
        np.save(external.parent / "x.npy", random_array(48, 8, 16, 16))
        for output in ("w.bin", "x.npy", "m.onnx"):
            with pytest.raises(ConfigError, match=r"would replace|which is read"):
                calibrate_file(external, external.parent / "x.npy", external.parent / output, overwrite=True)

    @pytest.mark.parametrize("output", ["data/x.npy", "score.py", "labels.npy", "read.py"])
    def test_data_in_folders_labels_and_the_user_s_code(self, output: str, external: Path) -> None:
        folder = external.parent
        (folder / "data").mkdir()
        np.save(folder / "data" / "x.npy", random_array(48, 8, 16, 16))
        np.save(folder / "labels.npy", np.zeros(48, np.int64))
        for name in ("score.py", "read.py"):
            (folder / name).write_text("raise RuntimeError('this is read before places are checked')")
        data = f"{folder / 'read.py'}:load" if output == "read.py" else folder / "data"
        metric, labels = f"python:{folder / 'score.py'}:f1", folder / "labels.npy"
        options = CalibrationOptions(metric=metric)
        before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        with pytest.raises(ConfigError, match="which is read"):
            calibrate_file(external, data, folder / output, options, labels=labels, overwrite=True)
        with pytest.raises(ConfigError, match="which is read"):
            calibrate_and_compile(
                external, os.fspath(data), folder / output, calibration=options, labels=labels, overwrite=True
            )
        assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before

    def test_a_metric_s_module_of_the_current_folder(self, external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(external.parent)
        Path("score.py").write_text("")
        np.save("x.npy", random_array(48, 8, 16, 16))
        with pytest.raises(ConfigError, match="which is read"):
            calibrate_file(external, "x.npy", "score.py", CalibrationOptions(metric="python:score:f1"), overwrite=True)

    @pytest.mark.parametrize(
        "report", ["data/x.npy", "score.py", "labels.npy", "w.bin", "c.reuse.json", "c.reuse.npz", "other.so"]
    )
    def test_the_report_of_a_compilation(self, report: str, external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(external.parent)
        Path("data").mkdir()
        np.save("data/x.npy", random_array(48, 8, 16, 16))
        Path(report).touch()
        before = Path(report).read_bytes()
        arguments = ["m.onnx", "-o", "c.reuse.onnx", "--overwrite", "--report", report, "--calibration-data", "data"]
        arguments += ["--labels", "labels.npy", "--metric", "python:score.py:f1"]
        result = CliRunner().invoke(compile_app, [*arguments, "--custom-op-library", "other.so"])
        assert result.exit_code and re.search("which is read|would replace", result.stderr)
        assert Path(report).read_bytes() == before

    @pytest.mark.parametrize("command", ["model", "worst"])
    @pytest.mark.parametrize("report", ["w.bin", "data/x.npy", "other.so"])
    def test_the_report_of_a_comparison(
        self, report: str, command: str, external: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(external.parent)
        Path("data").mkdir()
        Path(report).touch()
        arguments = [command, "m.onnx", "m.onnx", "--data", "data", "--custom-op-library", "other.so"]
        result = CliRunner().invoke(bench_app, [*arguments, "--json", report])
        assert result.exit_code and "which is read" in result.stderr

    @pytest.mark.parametrize(
        ("output", "report", "message"),
        [
            ("c.json", "file/report", "cannot be made: .* is a file"),
            ("c.json", "nowhere", "must be a folder"),
            ("report.json", ".", "would replace the configuration"),
            ("new/c.json", "new", "does not exist"),
        ],
    )
    def test_a_place_for_the_page_is_found_impossible_at_once(
        self, output: str, report: str, message: str, external: Path
    ) -> None:
        folder = external.parent
        (folder / "file").touch()
        (folder / "nowhere").symlink_to("missing")
        with pytest.raises((ConfigError, OutputError), match=message):
            calibrate_file(external, folder / "no.npy", folder / output, report=folder / report, overwrite=True)

    def test_the_output_s_own_data_file_is_no_link_to_the_original_s(self, tmp_path: Path) -> None:
        """The result's weights go to `out.onnx.data`, which here is the name of what the original reads."""
        (tmp_path / "far").mkdir()
        path = save_with_data(
            conv_model(weights=(64, 32, 3, 3), shape=(1, 32, 8, 8)), tmp_path / "m.onnx", "out.onnx.data"
        )
        (tmp_path / "out.onnx.data").rename(tmp_path / "far" / "blob")
        (tmp_path / "out.onnx.data").symlink_to("far/blob")
        before = (tmp_path / "far" / "blob").read_bytes()
        compile_file(path, tmp_path / "out.onnx", EXACT, overwrite=True)
        assert (tmp_path / "out.onnx.data").is_symlink() and (tmp_path / "far" / "blob").read_bytes() == before
        assert reuse_compiler.session(tmp_path / "out.onnx").run(None, {"x": random_array(1, 32, 8, 8)})[0].size


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """Yields damaged copies: cut off, with bits flipped, with pieces repeated."""
    rng = np.random.default_rng(0)
    for number in range(count):
        copy, at = bytearray(content), int(rng.integers(len(content)))
        if number % 4 == 0:
            copy = copy[:at]
        elif number % 4 == 1:
            copy[at:at] = copy[at : at + 8]
        else:
            copy[at] ^= 1 << int(rng.integers(8))
        yield bytes(copy)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save])
def test_damaged_arrays_give_a_sentence_or_arrays(save: Callable[..., None], tmp_path: Path) -> None:
    stream, refused = io.BytesIO(), 0
    if save is np.save:
        save(stream, np.arange(12))
    else:
        save(stream, **{"conv/projections": random_array(2, 4, 3), "conv/thresholds": random_array(2, 3)})
    config = ReuseConfig.model_validate({"layers": {"conv": LAYER}, "parameters_file": "d.npz"})
    for content in mutations(stream.getvalue(), 400):
        (tmp_path / "d.npz").write_bytes(content)
        for read in (
            lambda: read_arrays(tmp_path / "d.npz"),
            lambda: load_fitted(config, tmp_path / "c.json"),
            lambda: read_labels(tmp_path / "d.npz", 12, None),
        ):
            try:
                read()
            except ReuseError as error:
                refused += 1
                assert "d.npz" in str(error)
    assert refused > 400


def test_an_archive_that_would_inflate_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", zeros=np.zeros(2**22, np.uint8))
    assert isinstance(read_arrays(tmp_path / "bomb.npz"), dict)
    monkeypatch.setenv(INFLATE_LIMIT, str(2**20))
    with pytest.raises(DataError, match=f"would take .* bytes, more than .* set {INFLATE_LIMIT}"):
        read_arrays(tmp_path / "bomb.npz")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_cannot_be_inflated_by_and_by(kind: int, tmp_path: Path) -> None:
    """Python inflates them whole, whatever size is declared: 450 bytes took 600 MB."""
    stream = io.BytesIO()
    np.save(stream, np.zeros(8, np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", kind) as archive:
        archive.writestr("a.npy", stream.getvalue())
    with pytest.raises(DataError, match="NumPy does not write"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["p\0.npz", "p\ud800.npz", "x" * 5000])
def test_a_parameters_file_of_no_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(conv_model().SerializeToString())
    (tmp_path / "c.json").write_text(json.dumps({"layers": {"conv": LAYER}, "parameters_file": name}))
    (tmp_path / "out.onnx").touch()
    options = CompileOptions(config=tmp_path / "c.json")
    with pytest.raises(ReuseError, match=r"parameters_file: |named by"):
        compile_file(tmp_path / "m.onnx", tmp_path / "out.onnx", options, overwrite=True)


def test_an_output_whose_name_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(conv_model().SerializeToString())
    with pytest.raises(OutputError, match="cannot write"):
        compile_file(tmp_path / "m.onnx", tmp_path / ("x" * 5000))


def test_a_header_that_declares_more_than_there_is(tmp_path: Path) -> None:
    """Before any memory is taken: 2^60 elements could not be."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**60,)})
    (tmp_path / "a.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.npy", header.getvalue())
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match="truncated"):
            read_arrays(tmp_path / name)


def test_python_objects_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        read_arrays(tmp_path / "o.npy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100000, "nested too deeply"),
        ("1" * 10000, "is not valid"),
        ('{"a": NaN}', "a number that is NaN"),
        ('{"a": -Infinity}', "a number that is -Infinity"),
        ("{", "not valid JSON"),
    ],
)
def test_json_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(JsonError, match=message):
        read_json(tmp_path / "c.json")
    with pytest.raises(ReuseError, match=message):
        ReuseConfig.load(tmp_path / "c.json")


@pytest.mark.parametrize("text", ["9223372036854775808", "1" * 6000])
def test_labels_that_are_too_large(text: str, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text(f"1\n{text}\n")
    with pytest.raises(DataError, match="up to 64 bits"):
        read_labels(tmp_path / "l.txt", 2, None)
    np.save(tmp_path / "l.npy", np.array([1, 2**63], np.uint64))
    with pytest.raises(DataError, match="up to 64 bits"):
        read_labels(tmp_path / "l.npy", 2, None)


def test_a_capacity_that_rounds_to_zero(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"layers": {"conv": {**LAYER, "capacity": 1e-60}}}))
    with pytest.raises(ReuseError, match="capacity"):
        ReuseConfig.load(tmp_path / "c.json")


def test_parameters_of_another_shape_with_as_many_elements(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(conv_model(weights=(6, 8, 3, 3), shape=(1, 8, 8, 8)).SerializeToString())
    (tmp_path / "c.json").write_text(json.dumps({"layers": {"conv": LAYER}, "parameters_file": "p.npz"}))
    np.savez(
        tmp_path / "p.npz",
        allow_pickle=False,
        **{"conv/projections": random_array(4, 2, 3), "conv/thresholds": random_array(2, 3)},
    )
    with pytest.raises(ReuseError, match=r"projections.* has shape"):
        compile_file(tmp_path / "m.onnx", options=CompileOptions(config=tmp_path / "c.json"))


def test_tensor_helper_makes_fitting_tensors() -> None:
    """The tests' own models pass the check, whatever their types."""
    from reuse_compiler.graph.tensors import check_data

    for dtype in (np.float32, np.float16, np.int8, np.uint64, np.bool_, np.complex64):
        check_data(tensor("t", np.ones((2, 3), dtype)), "here")
    for kind in (onnx.TensorProto.INT4, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64):
        check_data(onnx.helper.make_tensor("t", kind, [5], [1] * 5), "here")
    check_data(onnx.TensorProto(name="t", data_type=onnx.TensorProto.STRING, dims=[1], string_data=[b"a"]), "here")
