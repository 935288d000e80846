"""Running models with the operator library, and with the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.runtime.library import library_path

Array = npt.NDArray[Any]
Run = Callable[..., Array]


def make_session(model: onnx.ModelProto, threads: int = 1) -> onnxruntime.InferenceSession:
    """Makes a session with the operator library, without anything of ours in between."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path()))
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="session")
def run_kernels() -> Run:
    def run(model: onnx.ModelProto, x: Array, threads: int = 1) -> Array:
        result: Array = make_session(model, threads).run(None, {"X": x})[0]
        return result

    return run


@pytest.fixture(scope="session")
def run_reference() -> Run:
    def run(model: onnx.ModelProto, x: Array) -> Array:
        result = ReferenceEvaluator(model, new_ops=REFERENCE_OPS).run(None, {"X": x})[0]  # type: ignore[arg-type]
        return np.asarray(result)

    return run
