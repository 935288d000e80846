"""Running models with the operator library, and with the reference operators: helpers of several test folders."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import typer
from onnx import helper
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner, Result

from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.runtime.library import library_path

Array = npt.NDArray[Any]


def make_session(model: onnx.ModelProto, threads: int = 1, library: bool = True) -> onnxruntime.InferenceSession:
    """Makes a session with the operator library or without, and without anything of ours in between."""
    options = onnxruntime.SessionOptions()
    if library:
        options.register_custom_ops_library(library_path())
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_kernels(model: onnx.ModelProto, x: Array, threads: int = 1) -> Array:
    """Returns the only output for the input X, computed by the operator library.

    The second of two runs writes to memory filled with NaN, or with other bytes than the result's, which would show
    where a kernel wrote nothing.
    """
    session = make_session(model, threads)
    result: Array = session.run(None, {"X": x})[0]
    if result.size == 0:
        return result
    poisoned = np.full_like(result, np.nan) if result.dtype.kind == "f" else ~result
    binding = session.io_binding()
    binding.bind_cpu_input("X", np.ascontiguousarray(x))
    binding.bind_output(session.get_outputs()[0].name, "cpu", 0, poisoned.dtype, poisoned.shape, poisoned.ctypes.data)
    session.run_with_iobinding(binding)
    return poisoned


def fed(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """Makes inputs of the model of constants."""
    for name in names:
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
        model.graph.initializer.remove(tensor)
    return model


def run_reference(model: onnx.ModelProto, x: Array) -> Array:
    """Returns the output Y for the input X, computed by the reference operators."""
    result = cast("list[Array]", ReferenceEvaluator(model, new_ops=REFERENCE_OPS).run(None, {"X": x}))[0]
    return np.asarray(result)


def run_command(app: typer.Typer, *arguments: object) -> Result:
    """Runs a command in this process; output on stdout and stderr is kept apart."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "error: unexpected" not in result.stderr, result.stderr
    return result


def run_with_isa(module: str, isa: str) -> None:
    """Runs a module with an instruction set, in a process of its own, as it is chosen once."""
    environment = {**os.environ, "REUSE_ISA": isa}
    result = subprocess.run(
        [sys.executable, "-m", module], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0, result.stdout + result.stderr
