"""The shared library of the operators: where it is, and the few functions of its C API that Python calls."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

from reuse_compiler.errors import LibraryError

FILE_NAMES = {"darwin": "libreuse_ops.dylib", "win32": "reuse_ops.dll"}
FILE_NAME = FILE_NAMES.get(sys.platform, "libreuse_ops.so")
"""What CMake calls the library here."""
OVERRIDE = "REUSE_LIBRARY"
"""Environment variable with the path of a library to use instead of the installed one."""


def library_path() -> str:
    """Returns what `SessionOptions.register_custom_ops_library` takes; raises LibraryError where there is none."""
    return str(library_file())


def get_library_path() -> str:
    """Returns `library_path()`, under the name that it has in onnxruntime-extensions."""
    return library_path()


def library_file() -> Path:
    """Returns where the operator library is; raises LibraryError where there is none."""
    override = os.environ.get(OVERRIDE)
    if override:
        path = Path(override).expanduser()
        if not path.is_file():
            raise LibraryError(f"{OVERRIDE} names {path}, which is not a file: correct or unset it")
        return path.resolve()
    for folder in _package_folders():
        path = folder / "lib" / FILE_NAME
        if path.is_file():
            return path.resolve()
    raise LibraryError(
        f"the operator library {FILE_NAME} is not built: run `pip install .` in the repository of reuse-compiler and "
        f"start Python outside of it, where it finds what was installed, or set {OVERRIDE} to the path of a built one"
    )


def _package_folders() -> list[Path]:
    """Folders of this package; an editable install has two, the sources and the built files."""
    package, _, _ = __name__.partition(".")
    return [Path(folder) for folder in sys.modules[package].__path__]


def library_version() -> str:
    """Returns the version that the operator library reports."""
    version: bytes = load_library().reuse_version()
    return version.decode()


def has_cuda() -> bool:
    """Returns whether the operator library was built with CUDA kernels."""
    return bool(load_library().reuse_has_cuda())


def load_library() -> ctypes.CDLL:
    """Returns the operator library, the one instance that onnxruntime's sessions in this process use too."""
    return _load(library_file())


@functools.cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        library.reuse_version.argtypes = []
        library.reuse_version.restype = ctypes.c_char_p
        library.reuse_isa.argtypes = library.reuse_last_error.argtypes = []
        library.reuse_isa.restype = library.reuse_last_error.restype = ctypes.c_char_p
        library.reuse_has_cuda.argtypes = []
        library.reuse_has_cuda.restype = ctypes.c_int32
        library.reuse_statistics_json.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64]
        library.reuse_statistics_json.restype = ctypes.c_int64
        statistics = (library.reuse_statistics_reset, library.reuse_statistics_forget)
        for clear in (*statistics, library.reuse_reset_clusters):
            clear.argtypes = [ctypes.c_char_p]
            clear.restype = None
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        library.reuse_fit_trees.argtypes = [pointer, size, size, pointer, size, *[pointer] * 4]
        library.reuse_fit_trees.restype = ctypes.c_int32
    except (OSError, AttributeError) as error:
        raise LibraryError(
            f"the operator library {path} cannot be used ({error}): rebuild it with `pip install .`"
        ) from error
    if library.reuse_isa() is None:
        raise LibraryError(f"the operator library cannot be used: {last_error(library)}")
    return library


def last_error(library: ctypes.CDLL) -> str:
    """Returns what the last failed call of this thread has to say."""
    message: bytes = library.reuse_last_error()
    return message.decode()
