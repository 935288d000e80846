"""Running cases on a GPU: sessions, element types, memory that stays on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import reuse_compiler
from reuse_compiler.runtime import Provider
from reuse_compiler.runtime.providers import CPU

Array = NDArray[Any]
PARAMETERS = ("projections", "thresholds", "coordinates")
"""Inputs that stay as they are in a float16 model."""


def cuda_alone(*, tf32: bool = False, cuda_graph: bool = False) -> list[Any]:
    """Returns the providers of production without the CPU behind CUDA: onnxruntime refuses a session that names the CPU
    and forbids to fall back to it.
    """
    return [entry for entry in Provider("cuda", tf32=tf32, cuda_graph=cuda_graph).for_onnxruntime() if entry != CPU]


def without_fallback() -> onnxruntime.SessionOptions:
    """Returns session options that refuse a model with a node for the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def cuda_session(
    model: onnx.ModelProto, *, tf32: bool = False, cuda_graph: bool = False
) -> onnxruntime.InferenceSession:
    """Makes a session on CUDA in which no node of the model falls back to the CPU."""
    providers = cuda_alone(tf32=tf32, cuda_graph=cuda_graph)
    return reuse_compiler.session(model.SerializeToString(), providers, without_fallback())


def run_cuda(model: onnx.ModelProto, x: Array, *, tf32: bool = False) -> Array:
    """Returns the output Y for the input X."""
    result: Array = cuda_session(model, tf32=tf32).run(None, {"X": x})[0]
    return result


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the float32 model with weights that float16 has."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in PARAMETERS:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return changed


class DeviceRun:
    """Runs of a session whose input and output stay in the same place on the device, as a CUDA graph needs them."""

    def __init__(self, session: onnxruntime.InferenceSession, x: Array, output_shape: tuple[int, ...]) -> None:
        self._session = session
        self._x = onnxruntime.OrtValue.ortvalue_from_numpy(x, "cuda", 0)
        self._y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(output_shape), x.dtype.type, "cuda", 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("X", self._x)
        self._binding.bind_ortvalue_output("Y", self._y)

    def __call__(self, x: Array | None = None) -> Array:
        if x is not None:
            self._x.update_inplace(x)
        self._session.run_with_iobinding(self._binding)
        return np.array(self._y.numpy())
