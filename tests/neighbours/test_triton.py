"""The configuration for Triton in docs/neighbours.md fits a compiled model; Triton itself runs in no test."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format

from reuse_compiler.runtime.library import library_path
from tests.neighbours.recipes import recipe, section

HEADING = "Triton Inference Server"


def test_names_and_shapes_are_those_of_the_files_and_of_the_model(folder: Path) -> None:
    config, words = recipe(HEADING, "protobuf"), section(HEADING)
    [library] = re.findall(r'op_library_filename: "(.*)"', config)
    assert Path(library).is_absolute() and Path(library).name == Path(library_path()).name
    assert f"{Path(library).parent.name}/\n  {Path(library).name} " in words, "the folders have the library there"
    [name] = re.findall(r'^name: "(\w+)"', config, re.MULTILINE)
    assert f"models/\n  {name}/\n    config.pbtxt\n    1/\n      model.onnx " in words
    graph = onnx.load("model.reuse.onnx").graph
    for kind, info in (("input", graph.input[0]), ("output", graph.output[0])):
        dims = [dim.dim_value for dim in info.type.tensor_type.shape.dim][1:]  # the batch is max_batch_size's
        assert f'{kind} [{{ name: "{info.name}" data_type: TYPE_FP32 dims: {dims} }}]' in config


def test_triton_s_protocol_knows_the_fields() -> None:
    protocol = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed")
    config = text_format.Parse(recipe(HEADING, "protobuf"), protocol.ModelConfig())
    assert list(config.model_operations.op_library_filename) == ["/reuse/libreuse_ops.so"]
    assert config.backend == "onnxruntime" and config.max_batch_size == 8
