"""Samples of a study: the runs that a data path holds, with labels where the user has a file of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import DataError
from reuse_compiler.verification.data import Shapes, Source
from reuse_compiler.verification.inputs import Feed, InputSpec
from reuse_compiler.verification.sources import open_data

Labels = NDArray[np.int64]


class Sample(NamedTuple):
    """One run of the model; `labels` [rows] are the classes of the rows of its batch."""

    feed: Feed
    labels: Labels | None


class Samples:
    """Runs that can be gone through any number of times, in the same order; each is read when its turn comes."""

    def __init__(self, source: Source, labels: Labels | None = None, runs: Sequence[int] | None = None) -> None:
        """`labels` holds one for each of the source's samples; `runs` are the feeds that belong to it (None: all)."""
        self._source, self._labels = source, labels
        self._runs = list(range(len(source)) if runs is None else runs)

    @property
    def description(self) -> str:
        """The samples in words."""
        whole = self._source.description
        return whole if len(self) == len(self._source) else f"{len(self)} of {whole}"

    @property
    def has_labels(self) -> bool:
        return self._labels is not None

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Sample]:
        first = 0
        for run, feed in enumerate(self._source):
            rows = _rows(feed)
            if run in self._runs:
                yield Sample(feed, None if self._labels is None else self._labels[first : first + rows])
            first += rows

    def subset(self, indices: Sequence[int]) -> Samples:
        """Returns some of the runs, by their numbers here."""
        return Samples(self._source, self._labels, [self._runs[index] for index in indices])


def open_samples(path: Path, specs: list[InputSpec], shapes: Shapes, labels: Path | None = None) -> Samples:
    """Opens what `open_data` takes; `labels` is a file of integers, one per sample in their order.

    Raises DataError if either cannot be read, or there are fewer labels than samples.
    """
    source = open_data(path, specs, shapes)
    if labels is None:
        return Samples(source, None)
    values = _read_labels(labels)
    rows = sum(map(_rows, source))
    if len(values) < rows:
        raise DataError(f"{labels} has {len(values)} labels for {rows} samples of {path}: every sample needs one")
    return Samples(source, values)


def _rows(feed: Feed) -> int:
    """Returns the samples in a run: the largest batch of its inputs."""
    return max((len(array) for array in feed.values() if array.ndim), default=1)


def _read_labels(file: Path) -> Labels:
    """Reads .npy, .npz with one array, or text with one integer per line."""
    try:
        if file.suffix.lower() in (".npy", ".npz"):
            loaded: Any = np.load(file, allow_pickle=False)
            values = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
        else:
            values = np.array([int(line) for line in file.read_text(encoding="utf-8").split()])
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{file} cannot be read as labels, one integer per sample: {error}") from error
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(f"{file} holds no list of integers, but {values.dtype} of shape {list(values.shape)}")
    return values.astype(np.int64)
