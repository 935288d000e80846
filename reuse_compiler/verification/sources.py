"""Chooses the reader for what `--verify-data`, `--data` or `--calibration-data` names, or a caller has in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.array_files import ARRAY_SUFFIXES
from reuse_compiler.errors import DataError
from reuse_compiler.paths import AnyPath
from reuse_compiler.verification.data import (
    FeedList,
    Shapes,
    Source,
    by_input,
    describe_runs,
    open_arrays,
    plain,
    split,
)
from reuse_compiler.verification.images import EXAMPLE, FILE_NAME, SUFFIXES, ImageSource, has_images, is_photo
from reuse_compiler.verification.inputs import Feed, InputSpec

Samples = AnyPath | NDArray[Any] | Mapping[str, NDArray[Any]] | Sequence[NDArray[Any] | Mapping[str, NDArray[Any]]]
"""Sample data: a file or folder; arrays as such a file holds them; or a sequence of what single runs take."""
WHERE = "the data in memory"


def data_files(samples: Samples) -> set[Path]:
    """Returns the files that `open_data` reads: none for arrays."""
    if not isinstance(samples, str | os.PathLike):
        return set()
    path = Path(samples)
    if not path.is_dir():
        return {path} | ({path.parent / FILE_NAME} if is_photo(path) else set())
    suffixes = SUFFIXES if (path / FILE_NAME).exists() else ARRAY_SUFFIXES
    return {file for file in path.iterdir() if file.suffix.lower() in suffixes or file.name == FILE_NAME}


def open_data(samples: Samples, specs: list[InputSpec], shapes: Shapes) -> Source:
    """Opens samples for the inputs `specs`; `shapes` are the user's, for batch sizes and photo sizes.

    One array (for the only input) or arrays by input name are cut into batches along their first axis, as those of a
    file are; of a sequence, each item is one run. Raises DataError for samples that do not fit.
    """
    specs = [spec.ranked(shapes) for spec in specs]
    if not isinstance(samples, str | os.PathLike):
        return _in_memory(samples, specs, shapes)
    path = Path(samples)
    if not path.exists():
        raise DataError(f"there is no sample data at {path}")
    if not specs:
        raise DataError(f"the model has no inputs, so {path} cannot be used")
    if path.is_file() and path.suffix.lower() in ARRAY_SUFFIXES:
        return open_arrays(path, specs, shapes)
    if path.is_file() and is_photo(path):
        if not (path.parent / FILE_NAME).exists():
            raise _without_preprocessing(path, "is a photo", path.parent)
        return ImageSource(path, specs, shapes)
    if path.is_dir():
        if (path / FILE_NAME).exists():
            return ImageSource(path, specs, shapes)
        if any(file.suffix.lower() in ARRAY_SUFFIXES for file in path.iterdir()):
            return open_arrays(path, specs, shapes)
        if has_images(path):
            raise _without_preprocessing(path, "holds photos", path)
        raise DataError(f"the folder {path} holds no sample data: no .npz or .npy file, and no photo")
    raise DataError(
        f"{path} is not sample data: give an .npz or .npy file, a folder of them, a photo or a folder of photos"
    )


def _without_preprocessing(path: Path, what: str, folder: Path) -> DataError:
    return DataError(
        f"{path} {what}, but {folder / FILE_NAME} is missing, which says what the model expects, as {EXAMPLE}"
    )


def _in_memory(samples: Any, specs: list[InputSpec], shapes: Shapes) -> FeedList:
    """Opens arrays that are cut into batches as those of a file are, or a sequence of what single runs take."""
    if not specs:
        raise DataError(f"the model has no inputs, so {WHERE} cannot be used")
    if isinstance(samples, Sequence):
        feeds = [_one_run(feed, specs, f"feed {number} of {WHERE}") for number, feed in enumerate(samples)]
    else:
        feeds = split(_by_input(samples, specs, WHERE), specs, shapes, WHERE).feeds
    if not feeds:
        raise DataError(f"{WHERE} is empty: give at least one feed")
    feeds = list(map(plain, feeds))
    return FeedList(feeds, f"{describe_runs(len(feeds), feeds[0])} from memory")


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
