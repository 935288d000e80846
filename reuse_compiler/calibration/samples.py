"""The samples of a calibration: runs of the model with their labels, reached by number, and their three parts."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.labels import Labels, as_labels, check_count, read_labels
from reuse_compiler.calibration.user_code import USER_ERRORS, describe_exception, load_function, split_name
from reuse_compiler.errors import DataError, ReuseError
from reuse_compiler.paths import AnyPath
from reuse_compiler.verification.data import Shapes, Source, count_rows, describe_runs
from reuse_compiler.verification.inputs import Feed, InputSpec, check_names
from reuse_compiler.verification.sources import open_data

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

    def with_feeds(self, feeds: Iterable[Feed], specs: list[InputSpec]) -> Samples:
        """Returns the same runs with other inputs, which are kept in a temporary folder."""
        labels = [sample.labels for sample in self if sample.labels is not None]
        return Samples(SpooledSource(feeds, specs), np.concatenate(labels) if labels else None)

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
    source = SpooledSource(_feeds_of(reader), specs)
    if labels is None:
        return Samples(source)
    if isinstance(labels, str | os.PathLike):
        return Samples(source, read_labels(labels, source.num_samples, None))
    checked = as_labels(np.asarray(labels), "labels")
    check_count(checked, source.num_samples, "labels")
    return Samples(source, checked)


class SpooledSource(Source):
    """Feeds that can be had only once, written to a temporary folder that goes with this object."""

    def __init__(self, feeds: Iterable[Any], specs: list[InputSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._folder = Path(tempfile.mkdtemp(prefix="reuse-samples-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        rows = [self._write(index, feed) for index, feed in enumerate(feeds)]
        if not rows:
            raise DataError("the reader gives no inputs: its first get_next() is None, or what it returns is empty")
        self._first_rows = list(accumulate(rows, initial=0))
        self.description = f"{describe_runs(len(self), self[0])} from a Python reader"

    @property
    def num_samples(self) -> int:
        return self._first_rows[-1]

    def rows(self, index: int) -> range:
        return range(self._first_rows[index], self._first_rows[index + 1])

    def __len__(self) -> int:
        return len(self._first_rows) - 1

    def __getitem__(self, index: int) -> Feed:
        if not 0 <= index < len(self):
            raise IndexError(index)
        feed = {}
        for number, (name, spec) in enumerate(self._specs.items()):
            array = np.load(self._file(index, number))
            feed[name] = array.astype(object) if spec.dtype.kind == "O" else array.view(spec.dtype)
        return feed

    def _write(self, index: int, feed: Any) -> int:
        """Checks and writes one feed; returns its samples."""
        where = f"run {index + 1} of the reader"
        if not isinstance(feed, dict):
            raise DataError(f"{where} is a {type(feed).__name__}, not a dict of arrays by input name")
        check_names(feed, list(self._specs.values()), where)
        accepted = {name: spec.accept(np.asarray(feed[name]), where) for name, spec in self._specs.items()}
        try:
            for number, array in enumerate(accepted.values()):
                np.save(self._file(index, number), array.astype(str) if array.dtype.kind == "O" else array)
        except OSError as error:
            raise DataError(
                f"{where} cannot be kept in {self._folder}: {error.strerror or error}; "
                "set TMPDIR to a folder with more space"
            ) from error
        return count_rows(accepted)

    def _file(self, index: int, number: int) -> Path:
        return self._folder / f"{index}-{number}.npy"


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
