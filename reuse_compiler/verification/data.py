"""Feeds for a model, to verify or calibrate it with: random numbers, .npz and .npy files, folders of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.array_files import ARRAY_SUFFIXES, read_arrays
from reuse_compiler.errors import DataError
from reuse_compiler.verification.inputs import Feed, InputSpec, check_names

Shapes = Mapping[str, tuple[int, ...]]
"""Concrete input shapes by input name."""

KEPT_BYTES = 512 * 2**20
"""Arrays of files that stay open for the next feed; what was used last stays in any case."""
KEPT_FILES = 64


class Source(ABC):
    """A sequence of feeds that can be gone through several times; at least one, read only when its turn comes.

    A feed is a batch of samples (images): `rows` tells which of the `num_samples` ones that the data holds. Those that
    fill no batch are in no feed.
    """

    description: str
    is_random = False
    names: list[str] | None = None
    """File names of the samples, where each is a file of its own."""

    @property
    @abstractmethod
    def num_samples(self) -> int: ...

    @abstractmethod
    def rows(self, index: int) -> range:
        """Returns which samples the feed `index` consists of."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Feed:
        """Returns the feed `index`, from 0 to the length excluded."""

    def __iter__(self) -> Iterator[Feed]:
        return (self[index] for index in range(len(self)))


class CountedSource(Source):
    """Feeds of which it is known how many samples each has."""

    def __init__(self, counts: Iterable[int]) -> None:
        self._starts = list(accumulate(counts, initial=0))

    @property
    def num_samples(self) -> int:
        return self._starts[-1]

    def rows(self, index: int) -> range:
        return range(self._starts[index], self._starts[index + 1])

    def __len__(self) -> int:
        return len(self._starts) - 1


class FeedList(CountedSource):
    """Feeds that are held in memory."""

    def __init__(self, feeds: Sequence[Feed], description: str) -> None:
        super().__init__(map(count_rows, feeds))
        self._feeds, self.description = feeds, description

    def __getitem__(self, index: int) -> Feed:
        return self._feeds[index]


LARGEST_RANDOM = 2**28
"""Values of all inputs that are made at most: they take 2 GiB before they have their type."""
REPEATING_SHARE = 4
"""One row of so many is random in an image that repeats; the others are blank."""


class RandomSource(FeedList):
    """One feed: normal floats, zeros and ones for integers (which may be indices) and booleans.

    If it is `repeating`, most rows of images are blank.
    """

    is_random = True

    def __init__(self, specs: list[InputSpec], shapes: Shapes, seed: int, *, repeating: bool = False) -> None:
        _check_size(specs, shapes)
        rng = np.random.default_rng(seed)
        feed = {spec.name: _random_array(rng, spec, shapes.get(spec.name)) for spec in specs}
        for array in feed.values() if repeating else ():
            _make_repeating(array)
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
        super().__init__([feed], f"random normal input {sizes}, seed {seed}" if sizes else "a model without inputs")


def _make_repeating(array: NDArray[Any]) -> None:
    """Sets all but the first rows of an image to zero: of axis 2 of [N, C, H, W], or the last of [N, C, W]."""
    if array.ndim in (3, 4):
        rows = array if array.ndim == 3 else array.swapaxes(2, 3)
        rows[..., -(-rows.shape[-1] // REPEATING_SHARE) :] = 0


class NoisySource(Source):
    """The feeds of another source with normal noise on its floats, so that no two vectors are equal."""

    def __init__(self, source: Source, noise: float, seed: int) -> None:
        """`noise` is relative to the standard deviation of each input."""
        self._source, self._noise, self._seed = source, noise, seed
        self.is_random = source.is_random
        self.description = f"{source.description}, with noise of {noise:g}"

    @property
    def num_samples(self) -> int:
        return self._source.num_samples

    def rows(self, index: int) -> range:
        return self._source.rows(index)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Feed:
        rng = np.random.default_rng([self._seed, index])
        return {name: self._noisy(array, rng) for name, array in self._source[index].items()}

    def _noisy(self, array: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        if array.dtype.kind != "f" or not array.size:
            return array
        scale = self._noise * (float(np.std(array, dtype=np.float64)) or 1.0)
        noisy: NDArray[Any] = (array + scale * rng.standard_normal(array.shape)).astype(array.dtype)
        return noisy


class Batches(NamedTuple):
    """What a file's arrays were cut into: feeds of `rows` samples each, and how many samples there were."""

    feeds: list[Feed]
    rows: int
    num_samples: int


class ArraySource(Source):
    """Files with arrays by input name (.npz) or for the only input (.npy), each a number of samples.

    Every file is read and checked at once, so that a mistake in the last one shows before the work starts.
    """

    def __init__(self, files: list[Path], specs: list[InputSpec], shapes: Shapes, origin: Path) -> None:
        self._files, self._specs, self._shapes = files, specs, shapes
        self._open: OrderedDict[int, Batches] = OrderedDict()
        sizes = [(len(batches.feeds), batches.rows, batches.num_samples) for batches in map(self._batches, self._order)]
        self._rows = [rows for _, rows, _ in sizes]
        self._first_feeds = list(accumulate((feeds for feeds, _, _ in sizes), initial=0))
        self._first_samples = list(accumulate((samples for _, _, samples in sizes), initial=0))
        self.description = f"{describe_runs(len(self), self[0])} from {origin.name}"

    @property
    def num_samples(self) -> int:
        return self._first_samples[-1]

    def rows(self, index: int) -> range:
        file, feed = self._find(index)
        start = self._first_samples[file] + feed * self._rows[file]
        return range(start, start + self._rows[file])

    def __len__(self) -> int:
        return self._first_feeds[-1]

    def __getitem__(self, index: int) -> Feed:
        file, feed = self._find(index)
        return plain(self._batches(file).feeds[feed])

    @property
    def _order(self) -> range:
        return range(len(self._files))

    def _find(self, index: int) -> tuple[int, int]:
        """The file that holds a feed, and the feed's number in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = bisect_right(self._first_feeds, index) - 1
        return file, index - self._first_feeds[file]

    def _batches(self, number: int) -> Batches:
        """The batches of a file as views; files that were used last stay open."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        file = self._files[number]
        arrays = by_input(read_arrays(file), self._specs, str(file))
        self._open[number] = split(arrays, self._specs, self._shapes, str(file))
        while len(self._open) > 1 and (len(self._open) > KEPT_FILES or self._open_bytes() > KEPT_BYTES):
            self._open.popitem(last=False)
        return self._open[number]

    def _open_bytes(self) -> int:
        return sum(part.nbytes for open_ in self._open.values() for feed in open_.feeds for part in feed.values())


def open_arrays(path: Path, specs: list[InputSpec], shapes: Shapes) -> ArraySource:
    """Opens one file, or a folder's array files in order of their names."""
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in ARRAY_SUFFIXES) if path.is_dir() else [path]
    return ArraySource(files, specs, shapes, path)


def describe_runs(count: int, first: Feed) -> str:
    """Returns how many runs of which shapes there are, in words."""
    sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in first.items())
    return f"{'1 run' if count == 1 else f'{count} runs'} of {sizes}"


def count_rows(feed: Feed) -> int:
    """Returns the samples of a feed: the length of its first array that has an axis, else one."""
    return next((len(array) for array in feed.values() if array.ndim), 1)


def split(arrays: dict[str, NDArray[Any]], specs: list[InputSpec], shapes: Shapes, where: str) -> Batches:
    """Cuts arrays with a leading sample or batch axis into feeds.

    An array of the input's own rank is cut along its first axis into batches: of the model's size if that is fixed,
    else of the size in `shapes`, else of one; what is left over is dropped. An array of one rank more is a list of
    whole inputs. An input with a single batch serves all the others' batches.
    """
    parts = {spec.name: _cut(arrays[spec.name], spec, shapes, where) for spec in specs}
    count = max((len(part) for part in parts.values()), default=0)
    for spec in specs:
        if len(parts[spec.name]) not in (1, count):
            raise DataError(
                f"{where} has {len(parts[spec.name])} batches of '{spec.name}' but {count} of another input: "
                "every input needs as many samples"
            )
    feeds = [{name: part[index % len(part)] for name, part in parts.items()} for index in range(count)]
    leading = next(spec for spec in specs if len(parts[spec.name]) == count)
    rows = count_rows({leading.name: parts[leading.name][0]})
    is_cut = leading.dims and arrays[leading.name].ndim == len(leading.dims)
    return Batches(feeds, rows, len(arrays[leading.name]) if is_cut else count * rows)


def by_input(loaded: NDArray[Any] | dict[str, NDArray[Any]], specs: list[InputSpec], where: str) -> Feed:
    """Returns arrays by input name, a single one being that of the only input; raises DataError for other names."""
    arrays = {_only_input(specs, where): loaded} if isinstance(loaded, np.ndarray) else loaded
    check_names(arrays, specs, where)
    return arrays


def plain(feed: Feed) -> Feed:
    """Returns the arrays as onnxruntime takes them, copied where need be: a map of an .npz is not aligned."""
    return {name: np.require(np.asarray(array), None, ["C", "A"]) for name, array in feed.items()}


def _cut(array: NDArray[Any], spec: InputSpec, shapes: Shapes, where: str) -> list[NDArray[Any]]:
    if spec.dims is not None and array.ndim == len(spec.dims) + 1:
        parts = list(array)
    elif not spec.dims:  # a scalar, or an input of unknown rank
        parts = [array]
    elif array.ndim == len(spec.dims):
        size = batch_size(spec, shapes, len(array), f"{where}: an array of shape {list(array.shape)} is")
        parts = [array[start : start + size] for start in range(0, len(array) - size + 1, size)]
    else:
        single = spec.fits((1, *array.shape))
        advice = "; of a single sample save array[None], as the first axis counts them" if single else ""
        raise DataError(f"{where}: an array of shape {list(array.shape)} does not fit the input {spec}{advice}")
    if not parts:
        raise DataError(f"{where} has no sample for the input '{spec.name}': its shape is {list(array.shape)}")
    return [spec.accept(part, where) for part in parts]


def batch_size(spec: InputSpec, shapes: Shapes, available: int, what: str) -> int:
    """Returns how many of the `available` samples make a batch: the model's size, else that in `shapes`, else one.

    Raises DataError, calling the samples `what`, if they are less than a batch.
    """
    fixed = spec.dims[0] if spec.dims else ""
    if not isinstance(fixed, int):
        wished = shapes[spec.name][0] if spec.name in shapes else 1
        return max(1, min(wished, available))
    if available < fixed:
        raise DataError(f"{what} less than one batch of the input {spec}")
    return fixed


def _only_input(specs: list[InputSpec], where: str) -> str:
    if len(specs) != 1:
        names = [spec.name for spec in specs]
        raise DataError(f"{where} holds one array, but the model has the inputs {names}: give arrays by name (an .npz)")
    return specs[0].name


def _check_size(specs: list[InputSpec], shapes: Shapes) -> None:
    """Raises DataError, naming the largest input, if random data for all of them would be too large."""
    values = {spec: prod(shapes[spec.name]) for spec in specs if spec.name in shapes}
    if sum(values.values()) > LARGEST_RANDOM:
        spec = max(values, key=values.__getitem__)
        others = f", with {len(specs) - 1} more," if len(specs) > 1 else ""
        raise DataError(
            f"the input {spec} of shape {list(shapes[spec.name])}{others} is too large for random data (over "
            f"{LARGEST_RANDOM} values): give sizes with --shape, or --verify-data, or --no-verify"
        )


def _random_array(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...] | None) -> NDArray[Any]:
    if shape is None:
        raise DataError(
            f"the input {spec} declares no shape: give its sizes with --shape, or --verify-data, or --no-verify"
        )
    if spec.dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(spec.dtype)
    if spec.dtype.kind in "fV":  # V: bfloat16 and the like of ml_dtypes
        return rng.standard_normal(shape).astype(spec.dtype)
    raise DataError(f"there are no random values for the input {spec}: give --verify-data or --no-verify")
