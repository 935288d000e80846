"""Reading PyTorch checkpoints: files in the format that PyTorch writes, and pickles that must be refused."""

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from models.checkpoint import STREAM_MAGIC, read_checkpoint


class FloatStorage:
    """Pickles as PyTorch's storage type of that name."""


def _rebuild_tensor_v2() -> None:
    """Pickles as PyTorch's function of that name."""


class Tensor:
    """Pickles as a PyTorch tensor that shows part of a storage."""

    def __init__(self, key: str, elements: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage = Storage(key, elements)
        self.shape = (offset, size, stride)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_tensor_v2, (self.storage, *self.shape, False, OrderedDict())


class Storage:
    def __init__(self, key: str, elements: int) -> None:
        self.reference = ("storage", FloatStorage, key, "cpu", elements, None)


class Writer(pickle.Pickler):
    """Writes storages as references."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.reference if isinstance(obj, Storage) else None


@pytest.fixture(autouse=True)
def names_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes pickle write our class and function under the names that PyTorch's have."""
    for member, module in ((FloatStorage, "torch"), (_rebuild_tensor_v2, "torch._utils")):
        stand_in = ModuleType(module)
        setattr(stand_in, member.__name__, member)
        monkeypatch.setitem(sys.modules, module, stand_in)
        monkeypatch.setattr(member, "__module__", module)


def write(path: Path, state: Any, storages: dict[str, list[float]]) -> Path:
    with path.open("wb") as file:
        for part in (STREAM_MAGIC, 1001, {"little_endian": True}, state, sorted(storages)):
            Writer(file, 2).dump(part)
        for key in sorted(storages):
            values = np.array(storages[key], "<f4")
            file.write(np.int64(len(values)).tobytes() + values.tobytes())
    return path


def test_tensors_are_views_of_their_storages(tmp_path: Path) -> None:
    state = {"a": Tensor("0", 6, 0, (2, 3), (3, 1)), "transposed": Tensor("0", 6, 1, (2, 2), (1, 2)),
             "b": Tensor("1", 1, 0, (), ()), "epoch": 3}  # fmt: skip
    tensors = read_checkpoint(write(tmp_path / "c.pth", state, {"0": [0, 1, 2, 3, 4, 5], "1": [7]}))
    assert set(tensors) == {"a", "transposed", "b"}
    np.testing.assert_array_equal(tensors["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["transposed"], [[1, 3], [2, 4]])
    assert tensors["b"].shape == () and tensors["b"] == 7


def write_archive(path: Path, state: Any, storages: dict[str, list[float]]) -> Path:
    pickled = io.BytesIO()
    Writer(pickled, 2).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("c/data.pkl", pickled.getvalue())
        archive.writestr("c/version", "3\n")
        for key, values in storages.items():
            archive.writestr(f"c/data/{key}", np.array(values, "<f4").tobytes())
    return path


def test_archives_are_read_as_streams_are(tmp_path: Path) -> None:
    state = OrderedDict(a=Tensor("0", 6, 0, (2, 3), (3, 1)), transposed=Tensor("0", 6, 1, (2, 2), (1, 2)))
    tensors = read_checkpoint(write_archive(tmp_path / "c.pth", state, {"0": [0, 1, 2, 3, 4, 5]}))
    np.testing.assert_array_equal(tensors["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["transposed"], [[1, 3], [2, 4]])


@pytest.mark.parametrize("storages", [{}, {"0": [0.0] * 5}, {"1": [0.0] * 6}])
def test_an_archive_without_what_it_refers_to_is_refused(tmp_path: Path, storages: dict[str, list[float]]) -> None:
    path = write_archive(tmp_path / "c.pth", {"a": Tensor("0", 6, 0, (6,), (1,))}, storages)
    with pytest.raises(pickle.UnpicklingError, match="no 6 elements of storage 0"):
        read_checkpoint(path)


def test_an_archive_of_anything_but_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"refused: the checkpoint refers to .*print"):
        read_checkpoint(write_archive(tmp_path / "c.pth", {"a": print}, {}))
    other = tmp_path / "other.pth"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(pickle.UnpicklingError, match="not a PyTorch checkpoint"):
        read_checkpoint(other)


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(1, (2, 3), (3, 1)), (0, (7,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,))]
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    path = write(tmp_path / "c.pth", {"a": Tensor("0", 6, offset, size, stride)}, {"0": [0.0] * 6})
    with pytest.raises(pickle.UnpicklingError, match="outside its storage"):
        read_checkpoint(path)


def test_anything_but_tensors_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.pth", {"a": print}, {})
    with pytest.raises(pickle.UnpicklingError, match=r"refused: the checkpoint refers to .*print"):
        read_checkpoint(path)
    other = tmp_path / "other.pth"
    other.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(pickle.UnpicklingError, match="not a PyTorch checkpoint"):
        read_checkpoint(other)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.pth", {"a": Tensor("0", 6, 0, (6,), (1,))}, {"0": [1.0] * 6})
    buffer = io.BytesIO(path.read_bytes())
    path.write_bytes(buffer.getvalue()[:-4])
    with pytest.raises(pickle.UnpicklingError, match="truncated"):
        read_checkpoint(path)
