"""Paths of the Python API: strings and `os.PathLike` objects do alike."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import reuse_compiler
from models.builders import SequentialBuilder
from reuse_compiler.benchmark.models import compare_models
from reuse_compiler.calibrated import calibrate_and_compile
from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.compiler import compile_file
from reuse_compiler.options import CompileOptions
from reuse_compiler.paths import AnyPath


class Elsewhere:
    """A path that is neither a string nor of pathlib."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, samples and labels."""
    net = SequentialBuilder("small", 8, None, seed=0)
    net.conv("conv1", 8, kernel=3, pad=1)
    net.flatten()
    net.fully_connected("fc", 4, relu=False)
    onnx.save(net.build(), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((6, 3, 8, 8), np.float32))
    np.save(tmp_path / "labels.npy", np.arange(6) % 4)
    return tmp_path


@pytest.mark.parametrize("form", [str, Path, Elsewhere])
def test_every_function_that_takes_a_path(folder: Path, form: Callable[[Path], AnyPath]) -> None:
    def at(name: str) -> AnyPath:
        return form(folder / name)

    model, data, labels = at("net.onnx"), at("x.npy"), at("labels.npy")
    quick = CalibrationOptions(budget="quick", strategy="papers", max_drop=1.0)
    found = calibrate_file(model, data, at("c.json"), quick, labels=labels, report=at("report"))
    assert (found.model, found.output) == (str(folder / "net.onnx"), str(folder / "c.json"))
    assert sorted(file.name for file in (folder / "report").iterdir()) == ["report.html", "report.json"]
    configured = CompileOptions.model_validate({"config": os.fspath(at("c.json"))})
    assert compile_file(model, at("a.onnx"), configured, verify_data=data).output == str(folder / "a.onnx")
    calibrate_and_compile(model, data, at("b.onnx"), None, quick, labels=labels, verify_data=data)
    assert compile_file(model, options=CompileOptions(force=True)).output == str(folder / "net.reuse.onnx")
    compare_models(model, at("net.reuse.onnx"), data=data, repeats=1)
    assert reuse_compiler.session(at("net.reuse.onnx")).get_outputs()[0].name


def test_the_library_s_path_is_what_onnxruntime_takes() -> None:
    onnxruntime.SessionOptions().register_custom_ops_library(reuse_compiler.library_path())
