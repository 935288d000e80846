"""NumPy files by array name; large arrays are mapped, so that data may be larger than memory.

Files come from anywhere. What one declares is compared with what it holds before memory is taken, and any damage is a
sentence. Knows the files only: what their arrays mean is decided by those who read them.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from reuse_compiler.errors import DataError

ARRAY_SUFFIXES = (".npz", ".npy")
MAPPED_BYTES = 2**20
"""Arrays of a file at least this large are mapped where the file holds them uncompressed."""
INFLATE_LIMIT = "REUSE_INFLATE_LIMIT"
"""The environment variable with the most bytes that the compressed arrays of a file may inflate to."""
DEFAULT_INFLATE_LIMIT = 4 * 2**30
_LOCAL_HEADER = 30
"""Bytes of a zip member's own header before its name; the lengths of name and extra field are its last two words."""
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How NumPy stores members; `zipfile` inflates other kinds without regard to the size that is asked for."""
_HEADER_READERS: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
"""By version of the format; a third one differs for arrays with named fields only, which no file of ours has."""


def read_arrays(file: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Reads an .npy (its array) or an .npz (arrays by name); raises DataError if it is neither, or damaged."""
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is no regular file")
        with file.open("rb") as stream:
            if stream.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
                return _read_archive(file)
            stream.seek(0)
            return _read_array(stream, file, 0, file.stat().st_size)
    except OSError as error:
        raise DataError(f"{file} cannot be read as a NumPy file: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise DataError(f"{file} cannot be read as a NumPy file (.npy, .npz): {error}") from error
    except Exception as error:  # a damaged file may raise anything in zipfile, zlib and NumPy
        raise DataError(f"{file} cannot be read as a NumPy file: {error or type(error).__name__}") from error


def read_named_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Reads an .npz; raises DataError for an .npy, too."""
    arrays = read_arrays(file)
    if not isinstance(arrays, dict):
        raise DataError(f"{file} holds one array without a name: an .npz is needed")
    return arrays


def _read_archive(file: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(info.compress_type not in _BOUNDED for info in members):
            raise ValueError("its members are compressed in a way that NumPy does not write: save it with NumPy")
        inflated = sum(info.file_size for info in members if info.compress_type != zipfile.ZIP_STORED)
        limit = int(os.environ.get(INFLATE_LIMIT) or DEFAULT_INFLATE_LIMIT)
        if inflated > limit:
            raise ValueError(
                f"its arrays would take {inflated} bytes, more than {limit}; if that is right, set {INFLATE_LIMIT}"
            )
        return {info.filename.removesuffix(".npy"): _read_member(archive, info, file) for info in members}


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> NDArray[Any]:
    """One array of an .npz: a map of its bytes if they are stored as they are, and many."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < MAPPED_BYTES or info.flag_bits & 1:
        with archive.open(info) as member:
            return _read_array(cast(BinaryIO, member), None, 0, info.file_size)
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(_LOCAL_HEADER)
        stream.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        return _read_array(stream, file, stream.tell(), min(info.file_size, file.stat().st_size - stream.tell()))


def _read_array(stream: BinaryIO, file: Path | None, start: int, size: int) -> NDArray[Any]:
    """Reads the array that `stream` stands at, `size` bytes with its header; maps it from `file` where it is large."""
    version = npy.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"its format version {version} is not known")
    shape, fortran, dtype = _HEADER_READERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read: save arrays of numbers")
    if any(extent < 0 for extent in shape):
        raise ValueError(f"its shape {shape} is negative")
    begin = stream.tell()
    length, held = prod(shape) * dtype.itemsize, size - (begin - start)
    if length > held:
        raise ValueError(f"it is truncated: its array {list(shape)} takes {length} bytes, and there are {held}")
    order: Literal["F", "C"] = "F" if fortran else "C"
    if file is not None and length >= MAPPED_BYTES:
        return cast(NDArray[Any], np.memmap(file, dtype, "r", begin, shape, order))
    content = bytearray(stream.read(length))
    if len(content) < length:
        raise ValueError(f"it is truncated: {length} bytes were declared, and there are {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order=order)
