"""Models with operators of another project's library: compiled, calibrated and compared with that library named."""

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

import reuse_compiler
from reuse_compiler.cli import bench, calibrate
from reuse_compiler.cli import compile as compile_command
from reuse_compiler.compiler import compile_file
from reuse_compiler.errors import LibraryError, VerificationError
from reuse_compiler.options import CompileOptions
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.report import ModelReport
from tools.similarity import __main__ as similarity

HERE = Path(__file__).resolve().parent
MISSING = "com.acme:Decode(-1) is not a registered function/op"
ADVICE = "; name the library that has the operators of com.acme with --custom-op-library"
FLAG = "--custom-op-library"
FORCED = ["--family", "exact", "--force", "--overwrite"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other project's library, built from other_library.cc."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("this machine has no C++ compiler")
    path = tmp_path_factory.mktemp("library") / "libacme.so"
    headers = HERE.parent / "custom_ops" / "ort"
    source = HERE / "other_library.cc"
    subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", f"-I{headers}", source, "-o", path], check=True)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Convolutions before, between and after the other project's operators, whose results have no declared shape."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((8, 8, 3, 3), np.float32) for _ in range(2)]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="first", pads=[1] * 4),
        helper.make_node("Decode", ["c0"], ["d0"], domain="com.acme"),
        helper.make_node("Conv", ["d0", "w1"], ["c1"], name="second", pads=[1] * 4),
        helper.make_node("Decode", ["c1"], ["y"], domain="com.acme"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (
        ("x", [1, 8, 12, 12]), ("y", None)
    )]  # fmt: skip
    constants = [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, "foreign", values[:1], values[1:], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", rng.standard_normal((8, 8, 12, 12), np.float32))
    return tmp_path / "net.onnx"


def run(command: object, *arguments: object) -> Result:
    app = command.app  # type: ignore[attr-defined]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_command_that_runs_models_takes_the_library(library: Path, model: Path) -> None:
    data, named = model.with_name("x.npy"), (FLAG, library)
    for extra in ([], ["--verify-data", data]):
        result = run(compile_command, model, *FORCED, *named, *extra)
        assert result.exit_code == 0, result.stderr
        assert "output error" in result.stdout
    quick = ["--budget", "quick", "--max-drop", "1", "--metric", "mse", "--overwrite"]
    result = run(calibrate, model, "--data", data, *quick, *named)
    assert result.exit_code in (0, 3), result.stderr
    samples = ["--calibration-data", data, "--max-drop", "1", "--metric", "mse", "--overwrite"]
    result = run(compile_command, model, *samples, *named)
    assert result.exit_code in (0, 3), result.stderr
    result = run(bench, "model", model, model.with_name("net.reuse.onnx"), "--repeats", "1", *named)
    assert result.exit_code == 0, result.stderr
    study = ["--layer", "first", "--methods", "lsh", "-L", "8", "-H", "5", "-o", model.with_name("study")]
    result = run(similarity, model, "--data", data, *study, *named)
    assert result.exit_code == 0, result.stderr


def test_another_thread_s_compilation_does_not_see_the_library(library: Path, model: Path) -> None:
    inside, finished = threading.Event(), threading.Event()

    def wait(what: str, done: int, total: int) -> None:
        if what == "comparing both models":
            inside.set()
            assert finished.wait(60)

    def compile_to(name: str, libraries: list[Path], progress: ProgressCallback = silent) -> ModelReport:
        options = CompileOptions(family="exact", force=True, custom_op_libraries=libraries)
        return compile_file(model, model.with_name(name), options, progress=progress)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(compile_to, "a.onnx", [library], wait)
        assert inside.wait(60)
        try:
            with pytest.raises(VerificationError, match=r"com\.acme:Decode"):
                compile_to("b.onnx", [])
        finally:
            finished.set()
        assert first.result().rel_error is not None


def test_without_the_library_the_advice_names_the_flag(model: Path) -> None:
    result = run(compile_command, model, *FORCED)
    assert result.exit_code == 1
    assert f"{MISSING}{ADVICE} (--no-verify writes the result all the same)" in result.stderr
    result = run(calibrate, model, "--data", model.with_name("x.npy"))
    assert result.exit_code == 1 and f"{MISSING}{ADVICE}\n" in result.stderr
    result = run(bench, "model", model, model)
    assert result.exit_code == 1 and f"{MISSING}{ADVICE}\n" in result.stderr
    result = run(compile_command, model, *FORCED, "--no-verify")
    assert result.exit_code == 0 and result.stderr == "", "shape inference goes on beyond unknown operators"


def test_libraries_that_are_none(model: Path) -> None:
    result = run(compile_command, model, *FORCED, FLAG, model.with_name("missing.so"))
    assert result.exit_code == 1 and "missing.so: correct --custom-op-library" in result.stderr
    result = run(compile_command, model, *FORCED, FLAG, model)
    assert result.exit_code == 1 and f"onnxruntime refuses the library of operators {model}: " in result.stderr


def test_sessions_with_the_library(library: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"x": np.load(model.with_name("x.npy"))[:1]}
    assert run(compile_command, model, *FORCED, "--no-verify").exit_code == 0
    monkeypatch.chdir(library.parent)  # a name without a folder is a file here, not something that the system finds
    options = onnxruntime.SessionOptions()
    first, second = (
        reuse_compiler.session(path, None, options, custom_op_libraries=[library.name, library]).run(None, x)[0]
        for path in (model, model.with_name("net.reuse.onnx"))
    )
    compiled = reuse_compiler.compile(model, family="exact", force=True, custom_op_libraries=[library])
    for other in (second, compiled.session().run(None, x)[0]):
        np.testing.assert_allclose(first, other, rtol=1e-4, atol=1e-4)
    with pytest.raises(LibraryError, match=r"there is no library of operators nowhere\.so"):
        reuse_compiler.session(model, custom_op_libraries=["nowhere.so"])
