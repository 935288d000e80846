"""The installed onnxruntime: imported late, so that a missing or too old one is a sentence and not a traceback."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime import cuda_libraries

OLDEST = (1, 18)
"""The operator library asks onnxruntime for version 18 of its C API."""


def import_onnxruntime() -> ModuleType:
    """Returns the onnxruntime module; raises LibraryError if it is missing, broken or older than `OLDEST`."""
    try:
        module = _import()
        found = str(module.__version__)
    except (ImportError, AttributeError) as error:
        advice = cuda_libraries.explain(cuda_libraries.load_runtime(str(error)))
        advice = advice or f"install it with `pip install 'onnxruntime>={_dotted(OLDEST)}'`"
        raise LibraryError(f"onnxruntime cannot be imported ({error}): {advice}") from error
    check_version(found)
    return module


def _import() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        # That of onnxruntime-gpu 1.27 needs CUDA's runtime library even to be imported.
        cuda_libraries.load_runtime(str(error))
        return importlib.import_module("onnxruntime")


def check_version(found: str) -> None:
    """Raises LibraryError unless `found` ("1.20.1", "1.21.0.dev20250101") is `OLDEST` or newer."""
    match = re.match(r"(\d+)\.(\d+)", found)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        raise LibraryError(
            f"onnxruntime {found} is too old for the operators of reuse-compiler, which need {_dotted(OLDEST)}: "
            f"`pip install 'onnxruntime>={_dotted(OLDEST)}'`"
        )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
