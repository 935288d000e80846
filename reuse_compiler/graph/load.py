"""Reading an ONNX file, with its external data found and checked but not read; the same checks of a model in memory."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from reuse_compiler.errors import ModelError
from reuse_compiler.graph.structure import structure_errors
from reuse_compiler.graph.tensors import check_data, external_data, is_external, set_external_data, tensors_of
from reuse_compiler.paths import AnyPath, real_path


def load_model(path: AnyPath) -> onnx.ModelProto:
    """Reads a model; external tensors stay external and get absolute locations.

    Raises ModelError if the file cannot be read, is not ONNX, is truncated, or misses (part of) its external data.
    """
    path = Path(path)
    model = _parse(_read(path), str(path))
    _check_structure(model, str(path))
    _locate_external_data(model, path)
    return model


def model_in_memory(model: onnx.ModelProto | bytes) -> onnx.ModelProto:
    """Returns the model that a caller has in memory, or its serialized form, after the checks that a file gets.

    Raises ModelError if it is not valid, or if external data belongs to it: in memory it has no folder to look in.
    """
    where = "the given model"
    if isinstance(model, bytes):
        model = _parse(model, where)
    _check_structure(model, where)
    for tensor in tensors_of(model):
        if is_external(tensor):
            raise ModelError(
                f"{where} leaves the data of tensor '{tensor.name}' in another file: give the path of the model, or "
                "read it with onnx.load, which reads such files, too"
            )
        check_data(tensor, where)
    return model


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ModelError(f"{path} is not a regular file: give the name of an .onnx file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from error


def _parse(content: bytes, where: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"{where} is not an ONNX model, or a truncated one ({error}); "
            "give an .onnx file as written by an exporter, in binary form"
        ) from error
    return model


def _check_structure(model: onnx.ModelProto, where: str) -> None:
    if not model.HasField("graph") or not model.ir_version or not model.graph.output:
        raise ModelError(f"{where} is not an ONNX model, or a truncated one: it holds no graph with outputs")
    for error in structure_errors(model):
        raise ModelError(f"{where} is not a valid ONNX model: {error}")


def _locate_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Makes the locations of external tensors absolute, after checking that the files hold their bytes."""
    for tensor in tensors_of(model):
        check_data(tensor, str(path))
        if not is_external(tensor):
            continue
        data = external_data(tensor)
        # A link may lead anywhere, as in the cache of a model hub; a location may not.
        inside = os.path.normpath(data.file)
        if data.file.is_absolute() or Path(inside).parts[:1] == (os.pardir,):
            raise ModelError(
                f"{path}: the external data '{data.file}' of tensor '{tensor.name}' lies outside the model's folder, "
                "which onnxruntime refuses; put the data file beside the model"
            )
        file = real_path(path.parent / inside)
        # os.path answers for names that are too long, too, for which methods of Path raise.
        if os.path.exists(file) and not file.is_file():  # noqa: PTH110
            raise ModelError(f"{path}: the external data '{data.file}' of tensor '{tensor.name}' is not a regular file")
        if not os.path.isfile(file):  # noqa: PTH113
            raise ModelError(
                f"{path}: the external data file '{data.file}' of tensor '{tensor.name}' is missing; "
                "put it beside the model, where the exporter wrote it"
            )
        size = file.stat().st_size
        if data.offset + data.length > size:
            raise ModelError(
                f"{path}: the external data file '{data.file}' is truncated: tensor '{tensor.name}' ends at byte "
                f"{data.offset + data.length}, the file at byte {size}"
            )
        set_external_data(tensor, str(file), data.offset, data.length)


def files_of(model: onnx.ModelProto, path: AnyPath) -> set[Path]:
    """Returns the files that a loaded model was read from: `path` and its external data."""
    return {Path(path)} | {external_data(tensor).file for tensor in tensors_of(model) if is_external(tensor)}
