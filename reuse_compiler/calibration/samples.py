"""The samples of a calibration: runs of the model with their labels, reached by number, and their three parts."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.labels import Labels, as_labels, check_count, read_labels
from reuse_compiler.calibration.user_code import USER_ERRORS, describe_exception, load_function, split_name
from reuse_compiler.errors import DataError, ReuseError
from reuse_compiler.paths import AnyPath
from reuse_compiler.verification.data import Shapes, Source
from reuse_compiler.verification.inputs import Feed, InputSpec
from reuse_compiler.verification.sources import open_data
from reuse_compiler.verification.spooled import SpooledSource

logger = logging.getLogger(__name__)

READER_FUNCTION = "load_data"
"""The function of a Python file that is called where the user names none."""
LEAST_RUNS = 3
"""One for each part: fitting, selection, the last check."""


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
        """Whether every sample has a label."""
        return self._labels is not None

    @property
    def first_feed(self) -> Feed:
        """The inputs of the first run."""
        return self[0].feed

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: int) -> Sample:
        run = self._runs[index]
        rows = self._source.rows(run)
        return Sample(self._source[run], None if self._labels is None else self._labels[rows.start : rows.stop])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def subset(self, indices: Sequence[int]) -> Samples:
        """Returns some of the runs, by their numbers here, in the order given; reads nothing."""
        return Samples(self._source, self._labels, [self._runs[index] for index in indices])

    def with_source(self, source: Source) -> Samples:
        """Returns the same runs with other inputs, those of `source`."""
        labels = [sample.labels for sample in self if sample.labels is not None]
        return Samples(source, np.concatenate(labels) if labels else None)

    def digest(self) -> str:
        """Returns the SHA-256 of all inputs and labels, in order."""
        return self._read_once[0]

    def shapes(self) -> list[Shapes]:
        """Returns the shapes of every run's inputs."""
        return self._read_once[1]

    @cached_property
    def _read_once(self) -> tuple[str, list[Shapes]]:
        """Digest and shapes in one pass, as reading may mean decoding pictures."""
        state = hashlib.sha256()
        shapes: list[Shapes] = []
        unusable: set[str] = set()
        for feed, labels in self:
            shapes.append({name: array.shape for name, array in feed.items()})
            for name, array in sorted(feed.items()):
                _hash_array(state, name, array)
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    unusable.add(name)
            if labels is not None:
                _hash_array(state, "labels", labels)
        if unusable:
            logger.warning(
                "there are NaN or infinite values in the samples of %s: results are measured on them all the same, and "
                "mean nothing unless such values are usual",
                " and ".join(f"'{name}'" for name in sorted(unusable)),
            )
        return state.hexdigest(), shapes


class Split(NamedTuple):
    """What trees and weights are fitted to, what the search compares choices on, and what takes no part in either."""

    fit: Samples
    selection: Samples
    holdout: Samples


def split(samples: Samples, holdout: float, seed: int, *, in_order: bool = False) -> Split:
    """Deals the runs out at random: the share `holdout` of them is held out, the rest is halved.

    Every part has at least one run. Runs that are `in_order` stay so, and those that come last are held out. Raises
    DataError if there are fewer than three.
    """
    count = len(samples)
    if count < LEAST_RUNS:
        raise DataError(
            f"calibration needs at least {LEAST_RUNS} runs of the model (to fit, to select, to check), but there "
            f"{'is' if count == 1 else 'are'} {count}: {samples.description}; give more samples, or a smaller batch "
            "with --batch or --shape"
        )
    order = list(range(count)) if in_order else np.random.default_rng(seed).permutation(count).tolist()
    held_out = min(max(1, round(count * holdout)), count - 2)
    selected = held_out + (count - held_out) // 2
    if in_order:
        fitted = count - selected
        parts = order[:fitted], order[fitted : count - held_out], order[count - held_out :]
    else:
        parts = order[selected:], order[held_out:selected], order[:held_out]
    return Split(*(samples.subset(part) for part in parts))


def open_samples(path: AnyPath, specs: list[InputSpec], shapes: Shapes, labels: AnyPath | None = None) -> Samples:
    """Opens what the user named as data: a file or folder (`open_data`), or a Python reader.

    A reader is `file.py[:function]` or `module:function`; the function takes no argument and returns what `from_reader`
    takes. Raises DataError if the data or the labels do not fit, ConfigError if there is no such function.
    """
    if is_reader(path):
        return from_reader(_call_reader(str(path)), specs, labels)
    source = open_data(path, specs, shapes)
    return Samples(source, None if labels is None else read_labels(labels, source.num_samples, source.names))


def is_reader(path: AnyPath) -> bool:
    """Whether `path` names a Python reader rather than a file or folder of data."""
    module, function = split_name(str(path))
    return module.endswith(".py") or (function is not None and not Path(path).exists())


def from_reader(reader: Any, specs: list[InputSpec], labels: AnyPath | NDArray[Any] | None = None) -> Samples:
    """Reads inputs from Python: an onnxruntime `CalibrationDataReader`, or an iterable, of arrays by input name.

    What it gives is kept in a temporary folder as long as the samples are in use, so memory holds one run at a time.
    `labels` is a file of labels or an array of them. Raises DataError if the inputs do not fit, are none, or if the
    reader raises.
    """
    source = SpooledSource(_feeds_of(reader), specs, "from a Python reader")
    if labels is None:
        return Samples(source)
    if isinstance(labels, str | os.PathLike):
        return Samples(source, read_labels(labels, source.num_samples, None))
    checked = as_labels(np.asarray(labels), "labels")
    check_count(checked, source.num_samples, "labels")
    return Samples(source, checked)


def _call_reader(name: str) -> Any:
    function = load_function(name, READER_FUNCTION)
    try:
        return function()
    except USER_ERRORS as error:
        raise DataError(f"{name} raises {describe_exception(error)}") from error


def _feeds_of(reader: Any) -> Iterator[Any]:
    """Goes through a reader; what it raises becomes a DataError."""
    get_next = getattr(reader, "get_next", None)
    if get_next is None and not isinstance(reader, Iterable):
        raise DataError(f"a reader has get_next() or is an iterable of dicts, unlike a {type(reader).__name__}")
    try:
        if get_next is None:
            yield from reader
        else:
            while (feed := get_next()) is not None:
                yield feed
    except ReuseError:
        raise
    except USER_ERRORS as error:
        raise DataError(f"the reader raises {describe_exception(error)}") from error


def _hash_array(state: Any, name: str, array: NDArray[Any]) -> None:
    state.update(f"{name} {array.dtype} {array.shape};".encode())
    # Python objects (strings) have no bytes of their own.
    state.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
