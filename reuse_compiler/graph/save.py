"""Writing an ONNX file: all of it or nothing, with its external data where the file needs it.

External tensors whose file lies in the output's folder (or below) keep it: the output then shares the data file with
the model it came from. Others are gathered into one file beside the output, named `<output>.data`. The same file takes
the weights of a model that would exceed protobuf's limit of 2 GB.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import EncodeError
from onnx import TensorProto

from reuse_compiler.errors import ConfigError, ModelError, OutputError
from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.structure import graphs_of
from reuse_compiler.graph.tensors import (
    ExternalData,
    copy_message,
    copy_range,
    data_bytes,
    external_data,
    is_external,
    raw_bytes,
    set_external_data,
    tensors_of,
)
from reuse_compiler.paths import AnyPath, are_same, real_path

logger = logging.getLogger(__name__)

LARGEST_MODEL_BYTES = 2**31 - 2**24
"""Protobuf's limit, less room for everything that is not a tensor's data."""
SMALLEST_MOVED_BYTES = 1024
"""Tensors below this size stay in the model when weights move out: they may be shapes, which readers want inside."""
ALIGNMENT = 4096
"""Offsets of external tensors are multiples of this, so that runtimes can map them into memory."""


def refuse_read(path: Path, read: Iterable[Path]) -> None:
    """Raises ConfigError if `path` is one of the files that are read, by whatever name: nothing may replace those."""
    for file in read:
        if are_same(path, file):
            raise ConfigError(f"{path} is {file}, which is read: give another name for the output")


def check_output(path: AnyPath, overwrite: bool = False) -> None:
    """Raises OutputError if `path` cannot be written: it exists, or its folder does not or is write-protected."""
    path = Path(path)
    try:
        path.exists()
    except OSError as error:  # its name is too long, or a folder above it is closed
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; give another name, or pass --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist")
    FileTransaction.check_folder(path.parent)


def save_model(
    model: onnx.ModelProto,
    path: AnyPath,
    overwrite: bool = False,
    *,
    link_data: bool = False,
    largest_bytes: int = LARGEST_MODEL_BYTES,
) -> list[Path]:
    """Writes `model` so that it works at `path`; returns the files written: the model, then its data file if any.

    Each file appears under its name only when all are complete. Raises OutputError if one exists and `overwrite` is not
    set, or if it cannot be written. Beyond `largest_bytes`, the weights move from the model to the data file. With
    `link_data`, data files are hard-linked instead of copied where the file system can: for temporary files.
    """
    path = Path(path)
    check_output(path, overwrite)
    writer = _DataWriter(model, path, largest_bytes, link_data)
    with FileTransaction(overwrite) as files:
        if writer.data_file is not None:
            with files.create(writer.data_file) as stream:
                model = writer.copy(stream)
        elif writer.shared:
            model = writer.copy(None)
        try:
            content = model.SerializeToString()
        except (EncodeError, ValueError) as error:
            raise ModelError(f"the model exceeds protobuf's 2 GB although its weights lie outside: {error}") from error
        with files.create(path) as stream:
            stream.write(content)
        written = files.publish()
    if writer.shared:
        names = ", ".join(sorted(str(file.name) for file in writer.shared))
        logger.info("%s refers to the external data file %s in its folder, as the original model does", path, names)
    return written[::-1]


class _DataWriter:
    """Decides where the data of each tensor goes, and copies a model with its tensors pointing there."""

    def __init__(self, model: onnx.ModelProto, path: Path, largest_bytes: int, link_data: bool) -> None:
        self._model = model
        self._folder = real_path(path.parent)
        self._moved: set[str] = set()
        self._written: dict[ExternalData | bytes, int] = {}
        self.shared: set[Path] = set()
        """Data files that the output uses where they are."""
        self.data_file: Path | None = None
        """The data file to write, or None if there is nothing to put in it."""
        sources, inside = set(), 0
        for tensor in tensors_of(model):
            if is_external(tensor):
                sources.add(external_data(tensor).file)
            else:
                inside += tensor.ByteSize()
        if inside > largest_bytes:
            self._moved = _large_initializers(model)
        self._locations = {file: location for file in sources if (location := self._location(file))}
        if link_data:
            self._link(path, sources - self._locations.keys())
        self.shared = set(self._locations)
        if sources - self.shared or self._moved:
            self.data_file = _unused_name(path, sources)

    def _location(self, file: Path) -> str | None:
        """Returns a data file's path relative to the output's folder, or None if it lies elsewhere."""
        file = real_path(file)
        return file.relative_to(self._folder).as_posix() if file.is_relative_to(self._folder) else None

    def _link(self, path: Path, sources: set[Path]) -> None:
        for number, file in enumerate(sorted(sources), start=1):
            link = path.with_name(f"{path.name}.{number}.data")
            with suppress(OSError):  # another file system, or one without hard links: the data is gathered then
                link.hardlink_to(file)
                self._locations[file] = link.name

    def copy(self, stream: BinaryIO | None) -> onnx.ModelProto:
        """Returns a copy of the model with external tensors placed; data to gather goes to `stream`."""
        result = onnx.ModelProto()
        copy_message(self._model, result, lambda source, target: self._place(source, target, stream))
        return result

    def _place(self, source: TensorProto, target: TensorProto, stream: BinaryIO | None) -> None:
        if is_external(source):
            target.CopyFrom(source)
            data = external_data(source)
            if data.file in self._locations:
                set_external_data(target, self._locations[data.file], data.offset, data.length)
            else:
                self._append(data, target, stream)
        elif source.name in self._moved:
            target.name, target.data_type, target.doc_string = source.name, source.data_type, source.doc_string
            target.dims.extend(source.dims)
            self._append(raw_bytes(source), target, stream)
        else:
            target.CopyFrom(source)

    def _append(self, data: ExternalData | bytes, target: TensorProto, stream: BinaryIO | None) -> None:
        """Writes data behind what is written already and points `target` to it; equal data is written once."""
        assert stream is not None and self.data_file is not None
        key = data if isinstance(data, ExternalData) else sha256(data).digest()
        offset = self._written.get(key)
        if offset is None:
            offset = -(-stream.tell() // ALIGNMENT) * ALIGNMENT
            stream.seek(offset)
            if isinstance(data, ExternalData):
                copy_range(data, stream, target.name)
            else:
                stream.write(data)
            self._written[key] = offset
        length = data.length if isinstance(data, ExternalData) else len(data)
        set_external_data(target, self.data_file.name, offset, length)


def _large_initializers(model: onnx.ModelProto) -> set[str]:
    """Returns the names of initializers worth moving out of the model.

    Tensors of attributes stay, since readers expect them inside, and so do the rare ones whose data is not raw.
    """
    return {
        tensor.name
        for graph in graphs_of(model.graph)
        for tensor in graph.initializer
        if tensor.HasField("raw_data") and data_bytes(tensor) >= SMALLEST_MOVED_BYTES
    }


def _unused_name(path: Path, sources: set[Path]) -> Path:
    """Returns the name of the output's data file, which must not be one that is read."""
    taken = {real_path(file) for file in sources}
    candidate, number = path.with_name(path.name + ".data"), 2
    while real_path(candidate) in taken:
        candidate, number = path.with_name(f"{path.name}.{number}.data"), number + 1
    return candidate
