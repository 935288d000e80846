"""Class indices of the samples, read from a file of numbers or a table of file names and labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.array_files import read_arrays
from reuse_compiler.errors import DataError
from reuse_compiler.paths import AnyPath

Labels = NDArray[np.int64]
"""One class index per sample."""

TEXT_SUFFIXES = (".txt", ".csv")
LARGEST, DIGITS = 2**63 - 1, 20
"""The largest label, and more characters than it has."""


def read_labels(file: AnyPath, count: int, names: Sequence[str] | None) -> Labels:
    """Reads one label per sample: `.npy`, `.npz` with one array, `.txt` and `.csv` (last column).

    A `.csv` whose first column holds the samples' file names `names` is put into their order, and may have more of
    them. Raises DataError if the file cannot be read, holds no integers, or not one per sample.
    """
    file = Path(file)
    if file.suffix.lower() in TEXT_SUFFIXES:
        rows = _read_rows(file)
        if names is not None and rows and len(rows[-1]) > 1:
            return _by_name(file, rows, names)
        labels = np.array([_number(file, number, row[-1]) for number, row in enumerate(rows, 1)], np.int64)
    else:
        labels = _read_array(file)
    check_count(labels, count, str(file))
    return labels


def check_count(labels: Labels, count: int, where: str) -> None:
    """Raises DataError unless there is one label per sample."""
    if len(labels) != count:
        raise DataError(f"{where} has {len(labels)} labels, but the data has {count} samples: give one for each")


def as_labels(array: NDArray[Any], where: str) -> Labels:
    """Returns an array `[samples]` or `[samples, 1]` of integers as labels; raises DataError if it is none."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{where} holds an array {list(array.shape)} of {array.dtype}: labels are integers, one per sample"
        )
    if array.size and int(array.max()) > LARGEST:
        raise DataError(f"{where} holds {int(array.max())}: labels are integers of up to 64 bits")
    return array.astype(np.int64)


def _read_array(file: Path) -> Labels:
    try:
        loaded = read_arrays(file)
    except DataError as error:
        raise DataError(f"{file} cannot be read as labels (.npy, .npz, .txt or .csv): {error}") from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            raise DataError(f"{file} has the arrays {list(loaded)}: a file of labels has one")
        (loaded,) = loaded.values()
    return as_labels(loaded, str(file))


def _read_rows(file: Path) -> list[list[str]]:
    """The lines that are not empty, as cells; the first one may hold headings."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as labels: {error}") from error
    rows = [row for row in rows if any(row)]
    has_headings = len(rows) > 1 and file.suffix.lower() == ".csv" and not _is_number(rows[0][-1])
    return rows[1:] if has_headings else rows


def _by_name(file: Path, rows: list[list[str]], names: Sequence[str]) -> Labels:
    by_name = {Path(row[0]).name: _number(file, number, row[-1]) for number, row in enumerate(rows, 1)}
    missing = [name for name in names if name not in by_name]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{file} has no label for the photo {missing[0]}{more}")
    return np.array([by_name[name] for name in names], np.int64)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _number(file: Path, number: int, text: str) -> int:
    if not _is_number(text):
        raise DataError(f"{file}: label {number} is '{text[:40]}', not an integer")
    if len(text) > DIGITS or abs(int(text)) > LARGEST:
        raise DataError(f"{file}: label {number} is {text[:40]}: labels are integers of up to 64 bits")
    return int(text)
