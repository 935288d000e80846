"""Feeds from arrays that a caller of the Python API has in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import DataError
from reuse_compiler.verification.data import Shapes, Source, by_input, count_rows, describe_runs, plain, split
from reuse_compiler.verification.inputs import Feed, InputSpec

WHERE = "the data in memory"


class FeedSource(Source):
    """Arrays that are cut into batches as those of a file are, or a sequence of what single runs take."""

    def __init__(
        self,
        samples: NDArray[Any] | Mapping[str, NDArray[Any]] | Sequence[NDArray[Any] | Mapping[str, NDArray[Any]]],
        specs: list[InputSpec],
        shapes: Shapes,
    ) -> None:
        if not specs:
            raise DataError(f"the model has no inputs, so {WHERE} cannot be used")
        if isinstance(samples, Sequence):
            feeds = [_one_run(feed, specs, f"feed {number} of {WHERE}") for number, feed in enumerate(samples)]
        else:
            feeds = split(_by_input(samples, specs, WHERE), specs, shapes, WHERE).feeds
        if not feeds:
            raise DataError(f"{WHERE} is empty: give at least one feed")
        self._feeds = [plain(feed) for feed in feeds]
        self._starts = list(accumulate(map(count_rows, feeds), initial=0))
        self.description = f"{describe_runs(len(feeds), self._feeds[0])} from memory"

    @property
    def num_samples(self) -> int:
        return self._starts[-1]

    def rows(self, index: int) -> range:
        return range(self._starts[index], self._starts[index + 1])

    def __len__(self) -> int:
        return len(self._feeds)

    def __getitem__(self, index: int) -> Feed:
        return self._feeds[index]


def _by_input(samples: Any, specs: list[InputSpec], where: str) -> Feed:
    """Anything NumPy takes for an array is one, such as a tensor of PyTorch."""
    try:
        if isinstance(samples, Mapping):
            arrays = {str(name): np.asarray(array) for name, array in samples.items()}
            return by_input(arrays, specs, where)
        return by_input(np.asarray(samples), specs, where)
    except (RuntimeError, TypeError, ValueError) as error:  # of lists that are no rectangle, tensors of another device
        raise DataError(f"{where} is not made of arrays: {error}") from error


def _one_run(samples: Any, specs: list[InputSpec], where: str) -> Feed:
    arrays = _by_input(samples, specs, where)
    return {spec.name: spec.accept(arrays[spec.name], where) for spec in specs}
