"""The built files that the check runs: taken as they are if they were built before, else built here.

    python -m tools.gpu_check.prebuilt ARCHITECTURE    # builds them: needs nvcc, no GPU

The folder `READY` then holds all that another machine needs: the library, the kernel tests, and from what they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.cpp_build import ROOT, build

BUILD = ROOT / "build" / "gpu"
READY = BUILD / "prebuilt"
LIBRARY, DEVICE_TESTS, STAMP = "libreuse_ops.so", "cuda_device_tests", "built_from"
SUFFIXES = (".cc", ".cu", ".h", ".cmake", ".map", ".txt")


@dataclass(frozen=True)
class Binaries:
    """The files to run; the kernel tests may be missing."""

    library: Path
    device_tests: Path
    origin: str
    """Where they come from, in words."""
    to_build: bool = False


def toolkit_program(name: str) -> str:
    """The path of a program of the CUDA toolkit, or its name if it is not found."""
    usual = Path("/usr/local/cuda/bin") / name
    return shutil.which(name) or (str(usual) if usual.is_file() else name)


def nvcc() -> str:
    """The CUDA compiler's path, or its name if it is not found."""
    return toolkit_program("nvcc")


def stamp(architecture: str, sources: Path = ROOT / "custom_ops") -> str:
    """Returns what the folder's file says about sources and architecture of the build."""
    digest = hashlib.sha256()
    for path in sorted(path for path in sources.rglob("*") if path.suffix in SUFFIXES):
        digest.update(str(path.relative_to(sources)).encode() + b"\0" + path.read_bytes())
    return f"{digest.hexdigest()} {architecture}\n"


def choose(folder: Path | None, architecture: str) -> Binaries:
    """Returns the named folder's files, or those that were built from these sources, or what will be built here."""
    if folder is not None:
        return _in_folder(folder, architecture)
    if _is_current(READY, architecture):
        return _in_folder(READY, architecture)
    if shutil.which(nvcc()) is not None:
        return Binaries(READY / LIBRARY, READY / DEVICE_TESTS, f"built here, for {architecture}", to_build=True)
    if (READY / LIBRARY).is_file():
        return _in_folder(READY, architecture)
    return _installed() or Binaries(READY / LIBRARY, READY / DEVICE_TESTS, "not there: no nvcc", to_build=True)


def _is_current(folder: Path, architecture: str) -> bool:
    files = (folder / LIBRARY, folder / DEVICE_TESTS, folder / STAMP)
    return all(path.is_file() for path in files) and files[2].read_text() == stamp(architecture)


def _in_folder(folder: Path, architecture: str) -> Binaries:
    """The files of a folder, or of the folder that a file is in; a build folder has the tests in `tests`."""
    folder = (folder.parent if folder.is_file() else folder).resolve()
    if not (folder / LIBRARY).is_file():
        raise FileNotFoundError(f"{folder} holds no {LIBRARY}")
    tests = next((path for path in (folder / DEVICE_TESTS, folder / "tests" / DEVICE_TESTS) if path.is_file()), None)
    if tests is not None:
        with contextlib.suppress(OSError):  # the bit that says it is a program is lost in some copies
            tests.chmod(tests.stat().st_mode | 0o111)
    if _is_current(folder, architecture):
        origin = "of these sources"
    elif (folder / STAMP).is_file():
        origin = f"OF OTHER SOURCES than these, or not for {architecture}"
    else:
        origin = "of sources that it does not tell"
    return Binaries(folder / LIBRARY, tests or folder / DEVICE_TESTS, f"{_short(folder)}, {origin}")


def _installed() -> Binaries | None:
    """The package's own library, if it has CUDA kernels; kernel tests are not installed."""
    try:
        from reuse_compiler.runtime.library import has_cuda, library_file

        found = library_file() if has_cuda() else None
    except Exception:  # a package may be missing, which the report says elsewhere
        return None
    return None if found is None else Binaries(found, found.parent / DEVICE_TESTS, f"{_short(found)}, installed")


def _short(path: Path) -> Path:
    """The path as a report shall have it, which is read elsewhere."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def build_here(architecture: str) -> None:
    """Builds the library and the kernel tests, and puts them where they are found."""
    options = ["-DREUSE_CUDA=ON", "-DREUSE_BUILD_TESTS=ON", f"-DCMAKE_CUDA_ARCHITECTURES={architecture}"]
    made = stamp(architecture)
    for target in ("reuse_ops", DEVICE_TESTS):
        build(BUILD, options, target)
    READY.mkdir(exist_ok=True)
    (READY / STAMP).unlink(missing_ok=True)
    for path in (BUILD / LIBRARY, BUILD / "tests" / DEVICE_TESTS):
        shutil.copy2(path, READY / path.name)
    (READY / STAMP).write_text(made)
    print(f"{READY}: {', '.join(f'{path.name} {path.stat().st_size / 2**20:.1f} MiB' for path in READY.iterdir())}")


if __name__ == "__main__":
    build_here(*sys.argv[1:])
