"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without executing anything that the file holds.

Both of PyTorch's formats are known: a stream of pickles (the default before version 1.6), and a zip archive.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_TYPES = {
    "DoubleStorage": np.dtype("<f8"), "FloatStorage": np.dtype("<f4"), "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"), "IntStorage": np.dtype("<i4"), "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"), "ByteStorage": np.dtype("u1"), "BoolStorage": np.dtype("?"),
}  # fmt: skip


def read_checkpoint(path: Path) -> dict[str, Array]:
    """Returns the tensors of a state dictionary by name; raises UnpicklingError if the file holds anything else."""
    state = _read_archive(path) if zipfile.is_zipfile(path) else _read_stream(path)
    if not isinstance(state, dict):
        raise pickle.UnpicklingError(f"{path} holds a {type(state).__name__}, not a state dictionary")
    return {str(name): tensor for name, tensor in state.items() if isinstance(tensor, np.ndarray)}


class _TensorUnpickler(pickle.Unpickler):
    """Builds containers and tensors; refuses every other class or function that a pickle could name."""

    def __init__(self, file: Any, storage: Callable[[np.dtype[Any], str, int], Array]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        raise pickle.UnpicklingError(f"refused: the checkpoint refers to {module}.{name}, which is not a tensor")

    def persistent_load(self, reference: Any) -> Array:
        """Resolves ('storage', type, key, device, elements)."""
        kind, dtype, key, _, elements = reference[:5]
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"refused: unknown reference {kind!r} in the checkpoint")
        return self._storage(dtype, str(key), int(elements))


def _rebuild_tensor(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Array:
    """Returns the part of a storage that a tensor shows."""
    last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if offset < 0 or min(size, default=1) < 0 or min(stride, default=0) < 0 or (0 not in size and last >= len(storage)):
        raise pickle.UnpicklingError("a tensor of the checkpoint reaches outside its storage")
    steps = tuple(step * storage.itemsize for step in stride)
    view = np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
    return np.ascontiguousarray(view).reshape(size)


def _read_archive(path: Path) -> Any:
    """Reads the state from `data.pkl`, and each storage that it refers to from a file beside that in `data`."""
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"]
        if len(found) != 1:
            raise pickle.UnpicklingError(f"{path} is not a PyTorch checkpoint")
        folder = PurePosixPath(found[0]).parent / "data"

        def storage(dtype: np.dtype[Any], key: str, elements: int) -> Array:
            name = str(folder / key)
            if name not in archive.namelist() or archive.getinfo(name).file_size != elements * dtype.itemsize:
                raise pickle.UnpicklingError(f"the checkpoint has no {elements} elements of storage {key}")
            return np.frombuffer(archive.read(name), dtype)

        with archive.open(found[0]) as file:
            return _TensorUnpickler(file, storage).load()


def _read_stream(path: Path) -> Any:
    """Reads magic number, version and system, the state with references, the keys, then each storage's elements."""
    storages: dict[str, Array] = {}

    def storage(dtype: np.dtype[Any], key: str, elements: int) -> Array:
        # The elements follow later in the file; until then the array is what tensors are views of.
        return storages.setdefault(key, np.zeros(elements, dtype))

    with path.open("rb") as file:
        if _TensorUnpickler(file, storage).load() != STREAM_MAGIC:
            raise pickle.UnpicklingError(f"{path} is not a PyTorch checkpoint")
        _TensorUnpickler(file, storage).load()
        _TensorUnpickler(file, storage).load()
        start = file.tell()
        _TensorUnpickler(file, storage).load()
        keys = _TensorUnpickler(file, storage).load()
        for key in keys:
            _fill(file, storages[str(key)])
        file.seek(start)
        return _TensorUnpickler(file, storage).load()  # again, now that the storages are filled


def _fill(file: BinaryIO, storage: Array) -> None:
    """Reads a storage: its number of elements as int64, then the elements."""
    elements = int(np.frombuffer(file.read(8), "<i8")[0])
    data = file.read(elements * storage.itemsize)
    if elements != len(storage) or len(data) != storage.nbytes:
        raise pickle.UnpicklingError("the checkpoint is truncated")
    storage[:] = np.frombuffer(data, storage.dtype)
