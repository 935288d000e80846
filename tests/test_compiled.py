"""Compiling from Python: models in memory and in files, and what becomes of the result."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import reuse_compiler
from reuse_compiler.compiler import compile_file
from reuse_compiler.errors import ConfigError, DataError, ModelError, OutputError
from reuse_compiler.options import CompileOptions
from tests.graph.external import save_with_data
from tests.passes.models import conv_model, random_array, run

EXACT: dict[str, Any] = {"family": "exact", "force": True}
X = {"x": random_array(1, 4, 8, 8)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(conv_model(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("form", ["proto", "bytes", "path", "text"])
def test_every_form_of_a_model_gives_what_a_file_does(path: Path, form: str) -> None:
    model = onnx.load(path)
    forms = {"proto": model, "bytes": model.SerializeToString(), "path": path, "text": str(path)}
    compiled = reuse_compiler.compile(forms[form], **EXACT)
    report = compile_file(path, options=CompileOptions(**EXACT))
    assert compiled.model == onnx.load(path.with_name("net.reuse.onnx")) != model
    assert compiled.report.layers[0].decision == "reuse" and compiled.report.rel_error is not None
    assert compiled.report.options == report.options and compiled.report.output is None
    assert compiled.report.model == (str(path) if form in ("path", "text") else model.graph.name)
    assert model == onnx.load(path), "the model that was given is not changed"
    assert "1 of 1 convolutions" in repr(compiled)


def test_what_is_left_alone_is_the_very_model(path: Path) -> None:
    model = onnx.load(path)
    compiled = reuse_compiler.compile(model, layers="nothing is called so")
    assert compiled.model is model and compiled.report.layers[0].decision == "dense"


def test_the_result_is_saved_and_run(path: Path) -> None:
    model = onnx.load(path)
    compiled = reuse_compiler.compile(model, **EXACT)
    compiled.save(path.with_name("out.onnx"))
    with pytest.raises(OutputError, match="exists already"):
        compiled.save(path.with_name("out.onnx"))
    compiled.save(path.with_name("out.onnx"), overwrite=True)
    for session in (compiled.session(), reuse_compiler.session(path.with_name("out.onnx"))):
        np.testing.assert_allclose(session.run(None, X), run(model, X), rtol=1e-5, atol=1e-5)
        assert [node.runs for node in reuse_compiler.statistics(session)] == [1]


def test_a_model_with_external_data(tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    outside = save_with_data(conv_model(), folder / "net.onnx", "net.bin")
    compiled, expected = reuse_compiler.compile(outside, **EXACT), run(conv_model(), X)
    np.testing.assert_allclose(compiled.session().run(None, X), expected, rtol=1e-5, atol=1e-5)
    for place in (folder / "out.onnx", other / "out.onnx"):
        compiled.save(place)
        np.testing.assert_allclose(reuse_compiler.session(place).run(None, X), expected, rtol=1e-5, atol=1e-5)
    assert not (folder / "out.onnx.data").exists() and (other / "out.onnx.data").exists()
    with pytest.raises(ConfigError, match=r"net\.bin, which is read"):
        compiled.save(folder / "net.bin", overwrite=True)
    for unread in (onnx.load(outside, load_external_data=False), outside.read_bytes()):
        with pytest.raises(ModelError, match=r"leaves the data of tensor '\w+' in another file: give the path"):
            reuse_compiler.compile(unread)


def test_arrays_are_measured_on(path: Path) -> None:
    model = onnx.load(path)
    array = X["x"]
    cases: list[tuple[Any, int]] = [(X, 1), (array, 1), ([array, array], 2), ([X, X, X], 3)]
    for data, runs in cases:
        report = reuse_compiler.compile(model, verify_data=data, **EXACT).report
        assert report.verified_on is not None
        assert report.verified_on.startswith(f"{runs} run") and report.verified_on.endswith("from memory")
    with pytest.raises(DataError, match="the data in memory has no array for the input"):
        reuse_compiler.compile(model, verify_data={"other": array})
    assert reuse_compiler.compile(model, verify=False, verify_data={"other": array}).report.verified_on is None


def test_what_is_wrong_is_said(path: Path) -> None:
    with pytest.raises(ConfigError, match="familly"):
        reuse_compiler.compile(path, familly="exact")
    with pytest.raises(ConfigError, match=r"num_hashes: .*64"):
        reuse_compiler.compile(path, num_hashes=65)
    with pytest.raises(ModelError, match="the given model is not an ONNX model, or a truncated one"):
        reuse_compiler.compile(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match="the given model is not an ONNX model"):
        reuse_compiler.compile(onnx.ModelProto())
    with pytest.raises(ModelError, match="cannot read the model"):
        reuse_compiler.compile(path.with_name("missing.onnx"))


def test_names_of_the_package() -> None:
    assert set(reuse_compiler.__all__) <= set(dir(reuse_compiler))
    assert all(getattr(reuse_compiler, name) is not None for name in reuse_compiler.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compiles'"):
        reuse_compiler.compiles  # noqa: B018
