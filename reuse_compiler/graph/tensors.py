"""Access to TensorProto: where its data lies (inside or in an external file), its values, its size in bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, numpy_helper

from reuse_compiler.errors import ModelError

ELEMENT_BITS = {
    2: ("UINT2", "INT2"),
    4: ("UINT4", "INT4", "FLOAT4E2M1"),
    8: ("BOOL", "UINT8", "INT8", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"),
    16: ("UINT16", "INT16", "FLOAT16", "BFLOAT16"),
    32: ("UINT32", "INT32", "FLOAT"),
    64: ("UINT64", "INT64", "DOUBLE", "COMPLEX64"),
    128: ("COMPLEX128",),
}
"""Size of an element as ONNX stores it raw, where several may share a byte; onnx.helper knows only NumPy's types."""
BITS_BY_TYPE = {
    TensorProto.DataType.Value(name): bits
    for bits, names in ELEMENT_BITS.items()
    for name in names
    if name in TensorProto.DataType.keys()  # noqa: SIM118 - it is not a dictionary
}

CHUNK_BYTES = 2**24
"""Size of the pieces in which data is copied from file to file."""

TENSOR_HOLDERS = {
    "onnx.ModelProto",
    "onnx.GraphProto",
    "onnx.NodeProto",
    "onnx.AttributeProto",
    "onnx.FunctionProto",
    "onnx.SparseTensorProto",
    "onnx.TrainingInfoProto",
}
"""Messages that can have a TensorProto somewhere inside."""


def element_name(element: int) -> str:
    """Returns the name of an element type, or words for one that ONNX does not have."""
    names: dict[int, str] = {value: name.lower() for name, value in TensorProto.DataType.items()}
    return names.get(element, f"{element}, which ONNX does not have")


@dataclass(frozen=True)
class ExternalData:
    """The bytes of an external tensor: `length` bytes of `file` from `offset`."""

    file: Path
    offset: int
    length: int


def is_external(tensor: TensorProto) -> bool:
    """Tells whether the tensor's data lies in a file of its own."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def data_bytes(tensor: TensorProto) -> int:
    """Returns the size of the tensor's data in bytes as ONNX stores it raw; 0 for strings and unknown types."""
    bits: int = prod(tensor.dims) * BITS_BY_TYPE.get(tensor.data_type, 0)
    return (bits + 7) // 8


FIELDS = {
    "float_data": ("FLOAT", "COMPLEX64"),
    "double_data": ("DOUBLE", "COMPLEX128"),
    "int64_data": ("INT64",),
    "uint64_data": ("UINT32", "UINT64"),
    "string_data": ("STRING",),
}
"""The field of a type's values where they are not raw; all other types are in int32_data."""
FIELD_BY_TYPE = {TensorProto.DataType.Value(name): field for field, names in FIELDS.items() for name in names}
COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
SMALLEST_BITS = 8
"""Types of fewer bits share the numbers of int32_data."""


def check_data(tensor: TensorProto, where: str) -> None:
    """Raises ModelError, naming the tensor and `where` it is, if its data is not what type and shape say."""
    if any(extent < 0 for extent in tensor.dims):
        raise ModelError(f"{where}: tensor '{tensor.name}' has a negative extent in its shape {list(tensor.dims)}")
    bits = BITS_BY_TYPE.get(tensor.data_type, 0)
    if is_external(tensor):
        given, wanted, unit = external_data(tensor).length, data_bytes(tensor), "bytes"
        if not bits:
            return
    elif tensor.HasField("raw_data"):
        given, wanted, unit = len(tensor.raw_data), data_bytes(tensor), "bytes"
    else:
        wanted, unit = prod(tensor.dims) * (2 if tensor.data_type in COMPLEX else 1), "values"
        if 0 < bits < SMALLEST_BITS:
            wanted = data_bytes(tensor)
        given = len(getattr(tensor, FIELD_BY_TYPE.get(tensor.data_type, "int32_data")))
    if given != wanted:
        kind = "external data" if is_external(tensor) else "data"
        raise ModelError(
            f"{where}: tensor '{tensor.name}' has {given} {unit} of {kind}, but its shape {list(tensor.dims)} needs "
            f"{wanted}: the file is damaged, or was edited wrongly"
        )


def external_entry(tensor: TensorProto, key: str) -> str | None:
    """Returns one entry (`location`, `offset`, `length`) of an external tensor, or None."""
    return next((entry.value for entry in tensor.external_data if entry.key == key), None)


def external_data(tensor: TensorProto) -> ExternalData:
    """Returns where an external tensor's bytes lie; raises ModelError if its entries make no sense."""
    location = external_entry(tensor, "location")
    try:
        offset = int(external_entry(tensor, "offset") or 0)
        length = int(external_entry(tensor, "length") or data_bytes(tensor))
    except ValueError as error:
        raise ModelError(f"tensor '{tensor.name}' has a malformed external data entry: {error}") from error
    # Of bytes that are no UTF-8, protobuf makes no str.
    if not location or not isinstance(location, str) or "\0" in location or offset < 0 or length < 0:
        raise ModelError(
            f"tensor '{tensor.name}' has external data whose location is no file name, or whose offset is negative"
        )
    return ExternalData(Path(location), offset, length)


def set_external_data(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Makes `tensor` refer to external data; its own data fields must be empty."""
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def copy_range(data: ExternalData, target: BinaryIO, name: str) -> None:
    """Appends the bytes of external tensor `name` to `target`, in pieces; raises ModelError if they cannot be read."""
    left = data.length
    try:
        source = data.file.open("rb")
    except OSError as error:
        raise ModelError(
            f"cannot read the external data {data.file} of tensor '{name}': {error.strerror or error}; "
            "load the model with reuse_compiler.graph.load_model, which finds the file beside the model"
        ) from error
    with source:
        source.seek(data.offset)
        while left:
            piece = source.read(min(left, CHUNK_BYTES))
            if not piece:
                raise ModelError(f"the external data {data.file} of tensor '{name}' is truncated")
            target.write(piece)
            left -= len(piece)


def raw_bytes(tensor: TensorProto) -> bytes:
    """Returns the tensor's data in ONNX's raw form, read from its file if it is external."""
    if is_external(tensor):
        stream = io.BytesIO()
        copy_range(external_data(tensor), stream, tensor.name)
        return stream.getvalue()
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    return bytes(numpy_helper.from_array(to_array(tensor)).raw_data)


def to_array(tensor: TensorProto) -> npt.NDArray[Any]:
    """Returns the tensor's values, read from its file if it is external; raises ModelError if they make no tensor."""
    if is_external(tensor):
        inside = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw_bytes(tensor))
        return to_array(inside)
    try:
        array = numpy_helper.to_array(tensor)
        if array.shape != tuple(tensor.dims):
            raise ValueError(f"there are {array.size} values")
        return array
    except Exception as error:  # its kind tells what is wrong: the type, the dimensions or the number of bytes
        raise ModelError(
            f"tensor '{tensor.name}' of the model is malformed, its values do not make an array {list(tensor.dims)}: "
            f"{error}; export the model again"
        ) from error


def to_tensor(array: npt.NDArray[Any], name: str) -> TensorProto:
    """Returns an array as a named TensorProto with raw data."""
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def tensors_of(message: Message) -> Iterator[TensorProto]:
    """Yields every TensorProto inside a model, graph, node or function: initializers and attributes, in all scopes."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        children = value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]
        for child in children:
            if isinstance(child, TensorProto):
                yield child
            elif child.DESCRIPTOR.full_name in TENSOR_HOLDERS:
                yield from tensors_of(child)


def copy_message(source: Message, target: Message, copy_tensor: Callable[[TensorProto, TensorProto], None]) -> None:
    """Copies `source` into the empty `target`, leaving every TensorProto to `copy_tensor(source, target)`.

    Lets a model be copied without its weights, or with its weights elsewhere, never holding them twice.
    """
    for field, value in source.ListFields():
        name = field.name
        if field.message_type is None:
            if hasattr(value, "extend"):
                getattr(target, name).extend(value)
            else:
                setattr(target, name, value)
        elif hasattr(value, "add"):
            for child in value:
                _copy_child(child, getattr(target, name).add(), copy_tensor)
        else:
            getattr(target, name).SetInParent()
            _copy_child(value, getattr(target, name), copy_tensor)


def _copy_child(source: Message, target: Message, copy_tensor: Callable[[TensorProto, TensorProto], None]) -> None:
    if isinstance(source, TensorProto):
        copy_tensor(source, target)
    elif source.DESCRIPTOR.full_name in TENSOR_HOLDERS and next(tensors_of(source), None) is not None:
        copy_message(source, target, copy_tensor)
    else:
        target.CopyFrom(source)


def copy_without_data(model: onnx.ModelProto, keep_bytes: int) -> onnx.ModelProto:
    """Returns a copy in which tensors of more than `keep_bytes` bytes have a type and shape but no data.

    Smaller ones have their data inside even if they were external.
    """

    def copy_tensor(source: TensorProto, target: TensorProto) -> None:
        if data_bytes(source) > keep_bytes:
            target.name, target.data_type = source.name, source.data_type
            target.dims.extend(source.dims)
        elif is_external(source):
            target.name, target.data_type, target.raw_data = source.name, source.data_type, raw_bytes(source)
            target.dims.extend(source.dims)
        else:
            target.CopyFrom(source)

    result = onnx.ModelProto()
    copy_message(model, result, copy_tensor)
    return result
