"""Reading of NumPy files: what is mapped has the same contents, and files that lie about their size are refused."""

from pathlib import Path

import numpy as np
import pytest

from reuse_compiler.array_files import MAPPED_BYTES, read_arrays
from reuse_compiler.errors import DataError

LARGE = np.arange(MAPPED_BYTES // 4 + 10, dtype=np.float32)


def test_large_arrays_are_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", LARGE)
    np.savez(tmp_path / "d.npz", small=np.arange(3), large=LARGE, columns=np.asfortranarray(LARGE[:-10].reshape(8, -1)))
    alone, arrays = read_arrays(tmp_path / "d.npy"), read_arrays(tmp_path / "d.npz")
    assert isinstance(alone, np.memmap) and isinstance(arrays, dict)
    assert [isinstance(arrays[name], np.memmap) for name in ("small", "large", "columns")] == [False, True, True]
    np.testing.assert_array_equal(alone, LARGE)
    np.testing.assert_array_equal(arrays["large"], LARGE)
    np.testing.assert_array_equal(arrays["columns"], LARGE[:-10].reshape(8, -1))


def test_small_and_compressed_arrays_are_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, MAPPED_BYTES + 1, np.uint8)
    np.savez_compressed(tmp_path / "d.npz", noise=noise)
    np.save(tmp_path / "d.npy", np.arange(3))
    arrays, alone = read_arrays(tmp_path / "d.npz"), read_arrays(tmp_path / "d.npy")
    assert isinstance(arrays, dict) and not isinstance(arrays["noise"], np.memmap) and not isinstance(alone, np.memmap)
    np.testing.assert_array_equal(arrays["noise"], noise)


@pytest.mark.parametrize("name", ["d.npy", "d.npz"])
def test_headers_that_promise_more_than_there_is(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    (np.save if name == "d.npy" else np.savez)(file, LARGE)
    size = str(len(LARGE)).encode()
    content = file.read_bytes()
    assert content.count(size) == 1
    file.write_bytes(content.replace(size, b"9" * len(size)))
    with pytest.raises(DataError, match="cannot be read as a NumPy file"):
        read_arrays(file)
