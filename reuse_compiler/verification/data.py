"""Where the inputs of a verification come from: random numbers, .npz and .npy files, folders of them, or images."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import DataError
from reuse_compiler.verification.inputs import Feed, InputSpec, check_names

Shapes = Mapping[str, tuple[int, ...]]
"""Concrete input shapes by input name."""

ARRAY_SUFFIXES = (".npz", ".npy")


class Source(ABC):
    """A sequence of feeds that can be gone through several times; at least one, read only when its turn comes."""

    description: str
    is_random = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Feed]: ...


class RandomSource(Source):
    """One feed: normal floats, zeros and ones for integers (which may be indices) and booleans."""

    is_random = True

    def __init__(self, specs: list[InputSpec], shapes: Shapes, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._feed = {spec.name: _random_array(rng, spec, shapes.get(spec.name)) for spec in specs}
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in self._feed.items())
        self.description = f"random normal input {sizes}, seed {seed}" if sizes else "a model without inputs"

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Feed]:
        yield self._feed


class ArraySource(Source):
    """Files with arrays by input name (.npz) or for the only input (.npy), each a number of samples.

    Every file is read and checked at once, so that a mistake in the last one shows before the work starts.
    """

    def __init__(self, files: list[Path], specs: list[InputSpec], shapes: Shapes, origin: Path) -> None:
        self._files, self._specs, self._shapes = files, specs, shapes
        self._read: tuple[Path, list[Feed]] | None = None
        self._count = sum(len(self._feeds(file)) for file in files)
        first = next(iter(self))
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in first.items())
        runs = "1 run" if self._count == 1 else f"{self._count} runs"
        self.description = f"{runs} of {sizes} from {origin.name}"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Feed]:
        for file in self._files:
            yield from self._feeds(file)

    def _feeds(self, file: Path) -> list[Feed]:
        """Feeds of a file, as views; the last file stays in memory."""
        if self._read is None or self._read[0] != file:
            self._read = None  # frees the previous file before the next is read
            self._read = (file, split(read_arrays(file, self._specs), self._specs, self._shapes, str(file)))
        return self._read[1]


def open_arrays(path: Path, specs: list[InputSpec], shapes: Shapes) -> ArraySource:
    """Opens one file, or a folder's array files in order of their names."""
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in ARRAY_SUFFIXES) if path.is_dir() else [path]
    return ArraySource(files, specs, shapes, path)


def read_arrays(file: Path, specs: list[InputSpec]) -> dict[str, NDArray[Any]]:
    """Reads the arrays of a file by input name; raises DataError if it is no NumPy file or has other names."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {_only_input(specs, file): loaded}
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read as a NumPy file: {error}") from error
    check_names(arrays, specs, str(file))
    return arrays


def split(arrays: dict[str, NDArray[Any]], specs: list[InputSpec], shapes: Shapes, where: str) -> list[Feed]:
    """Cuts arrays with a leading sample or batch axis into feeds.

    An array of the input's own rank is cut along its first axis into batches: of the model's size if that is fixed,
    else of the size in `shapes`, else of one; what is left over is dropped. An array of one rank more is a list of
    whole inputs. An input with a single batch serves all the others' batches.
    """
    parts = {spec.name: _batches(arrays[spec.name], spec, shapes, where) for spec in specs}
    count = max((len(part) for part in parts.values()), default=0)
    for spec in specs:
        if len(parts[spec.name]) not in (1, count):
            raise DataError(
                f"{where} has {len(parts[spec.name])} batches of '{spec.name}' but {count} of another input: "
                "every input needs as many samples"
            )
    return [{name: part[index % len(part)] for name, part in parts.items()} for index in range(count)]


def _batches(array: NDArray[Any], spec: InputSpec, shapes: Shapes, where: str) -> list[NDArray[Any]]:
    if spec.dims is not None and array.ndim == len(spec.dims) + 1:
        parts = list(array)
    elif not spec.dims:  # a scalar, or an input of unknown rank
        parts = [array]
    elif array.ndim == len(spec.dims):
        size = _batch_size(array, spec, shapes, where)
        parts = [array[start : start + size] for start in range(0, len(array) - size + 1, size)]
    else:
        raise DataError(f"{where}: an array of shape {list(array.shape)} does not fit the input {spec}")
    if not parts:
        raise DataError(f"{where} has no sample for the input '{spec.name}': its shape is {list(array.shape)}")
    return [spec.accept(part, where) for part in parts]


def _batch_size(array: NDArray[Any], spec: InputSpec, shapes: Shapes, where: str) -> int:
    assert spec.dims
    fixed = spec.dims[0]
    if isinstance(fixed, int):
        if len(array) < fixed:
            raise DataError(
                f"{where}: an array of shape {list(array.shape)} is less than one batch of the input {spec}"
            )
        return fixed
    wished = shapes[spec.name][0] if spec.name in shapes else 1
    return max(1, min(wished, len(array)))


def _only_input(specs: list[InputSpec], file: Path) -> str:
    if len(specs) != 1:
        names = [spec.name for spec in specs]
        raise DataError(
            f"{file} holds one array, but the model has the inputs {names}: give an .npz keyed by their names"
        )
    return specs[0].name


def _random_array(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...] | None) -> NDArray[Any]:
    if shape is None:
        raise DataError(f"the input {spec} declares no shape: give --verify-data or --no-verify")
    if spec.dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(spec.dtype)
    if spec.dtype.kind in "fV":  # V: bfloat16 and the like of ml_dtypes
        return rng.standard_normal(shape).astype(spec.dtype)
    raise DataError(f"there are no random values for the input {spec}: give --verify-data or --no-verify")
