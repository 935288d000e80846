"""NumPy files by input name; large arrays are mapped, so that data may be larger than memory.

Knows the files only: what their arrays mean to a model is decided in `data`.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import DataError

ARRAY_SUFFIXES = (".npz", ".npy")
MAPPED_BYTES = 2**20
"""Arrays of a file at least this large are mapped where the file holds them uncompressed."""
_LOCAL_HEADER = 30
"""Bytes of a zip member's own header before its name; the lengths of name and extra field are its last two words."""


def read_arrays(file: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Reads an .npy (its array) or an .npz (arrays by name); raises DataError if it is neither."""
    try:
        mapped = file.stat().st_size >= MAPPED_BYTES
        loaded = np.load(file, allow_pickle=False, mmap_mode="r" if mapped else None)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: _member(file, loaded, name) if mapped else loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read as a NumPy file: {error}") from error


def _member(file: Path, archive: Any, name: str) -> NDArray[Any]:
    """One array of an .npz: a map of its bytes if they are stored as they are, else read."""
    infos = {info.filename: info for info in archive.zip.infolist()}
    info = infos.get(f"{name}.npy") or infos[name]
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < MAPPED_BYTES or info.flag_bits & 1:
        array: NDArray[Any] = archive[name]
        return array
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(_LOCAL_HEADER)
        stream.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        start = stream.tell()
        wide = np.lib.format.read_magic(stream) != (1, 0)
        read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject or stream.tell() - start + int(np.prod(shape)) * dtype.itemsize > info.file_size:
            raise ValueError(f"the array '{name}' is no plain array of the size that its header says")
        return np.memmap(file, dtype, "r", stream.tell(), shape, "F" if fortran else "C")
