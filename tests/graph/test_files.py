"""Files of a transaction appear together or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from reuse_compiler.errors import OutputError
from reuse_compiler.graph.files import FileTransaction


def test_nothing_appears_before_publish(tmp_path: Path) -> None:
    with FileTransaction(overwrite=False) as files:
        for name in ("a", "b"):
            with files.create(tmp_path / name) as stream:
                stream.write(name.encode())
        assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
        assert files.publish() == [tmp_path / "a", tmp_path / "b"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "b").read_bytes() == b"b"


def test_what_is_not_published_is_deleted(tmp_path: Path) -> None:
    with pytest.raises(KeyError), FileTransaction(overwrite=False) as files:
        with files.create(tmp_path / "a"):
            pass
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_meanwhile(tmp_path: Path, overwrite: bool) -> None:
    with FileTransaction(overwrite) as files:
        with files.create(tmp_path / "a") as stream:
            stream.write(b"new")
        (tmp_path / "a").write_bytes(b"other")
        if overwrite:
            files.publish()
        else:
            with pytest.raises(OutputError, match="meanwhile"):
                files.publish()
    assert (tmp_path / "a").read_bytes() == (b"new" if overwrite else b"other")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
