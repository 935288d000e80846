"""Feeds that a program hands over one by one, kept on disk to be gone through again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from reuse_compiler.errors import DataError
from reuse_compiler.paths import temporary_folder
from reuse_compiler.verification.data import CountedSource, count_rows, describe_runs
from reuse_compiler.verification.inputs import Feed, InputSpec, check_names


class SpooledSource(CountedSource):
    """Feeds that can be had only once, written to a temporary folder that goes with this object."""

    def __init__(self, feeds: Iterable[Any], specs: list[InputSpec], origin: str) -> None:
        """`origin` follows the shapes in the description. Raises DataError for no feeds, or such as the model does not
        take.
        """
        self._specs = {spec.name: spec for spec in specs}
        self._folder = temporary_folder(self, "reuse-samples-")
        rows = [self._write(index, feed) for index, feed in enumerate(feeds)]
        if not rows:
            raise DataError("the reader gives no inputs: its first get_next() is None, or what it returns is empty")
        super().__init__(rows)
        self.description = f"{describe_runs(len(self), self[0])} {origin}"

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
