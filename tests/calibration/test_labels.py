"""Label files in all their forms, and those that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reuse_compiler.calibration.labels import read_labels
from reuse_compiler.errors import DataError

PHOTOS = ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "3\n1\n2\n"),
        ("l.txt", "\n3\n1\n\n2"),
        ("l.csv", "3\n1\n2\n"),
        ("l.csv", "label\n3\n1\n2\n"),
        ("l.csv", "x.png,3\ny.png,1\nz.png,2\n"),
        ("l.csv", "\ufefffile,label\nx.png, 3\ny.png, 1\nz.png, 2\n"),
    ],
)
def test_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    labels = read_labels(tmp_path / name, 3, None)
    assert labels.tolist() == [3, 1, 2] and labels.dtype == np.int64


@pytest.mark.parametrize("array", [np.array([3, 1, 2], np.uint8), np.array([[3], [1], [2]], np.int32)])
def test_arrays(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "l.npy", array)
    np.savez(tmp_path / "l.npz", labels=array)
    for name in ("l.npy", "l.npz"):
        labels = read_labels(tmp_path / name, 3, None)
        assert labels.tolist() == [3, 1, 2] and labels.dtype == np.int64


def test_file_names_put_them_in_order(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    file.write_text("file,label\ntrain/c.png,2\nunused.png,9\nb.png,1\na.png,0\n")
    assert read_labels(file, 3, PHOTOS).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"l\.csv has no label for the photo d\.png and 1 more"):
        read_labels(file, 5, [*PHOTOS, "d.png", "e.png"])


def test_photos_without_names_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("7\n8\n9")
    assert read_labels(tmp_path / "l.txt", 3, PHOTOS).tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", "1\n2\n", "has 2 labels, but the data has 3 samples"),
        ("l.txt", "", "has 0 labels, but the data has 3 samples"),
        ("l.txt", "1\ncat\n3", "label 2 is 'cat', not an integer"),
        ("l.txt", "1\n2.5\n3", "label 2 is '2.5', not an integer"),
        ("l.csv", "a,1\nb,x\nc,3", "label 2 is 'x'"),
        ("l.npy", np.array([1, 2]), "has 2 labels, but the data has 3 samples"),
        ("l.npy", np.array([1.0, 2.0, 3.0]), r"an array \[3\] of float64: labels are integers"),
        ("l.npy", np.eye(3, dtype=np.int64), r"an array \[3, 3\] of int64: labels are integers"),
        ("l.npz", {"a": np.arange(3), "b": np.arange(3)}, "a file of labels has one"),
        ("l.npy", "not numpy", "cannot be read as labels"),
        ("l.npz", "PK not zip", "cannot be read as labels"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, name: str, content: Any, message: str) -> None:
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    elif isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / name, 3, None)


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("l.txt", "l.npy"):
        with pytest.raises(DataError, match="cannot be read as labels"):
            read_labels(tmp_path / name, 3, None)
