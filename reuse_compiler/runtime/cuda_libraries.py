"""The libraries that onnxruntime's CUDA provider needs, loaded from the folders of NVIDIA's PyPI packages.

onnxruntime's `preload_dlls` looks only beside onnxruntime, and not in `nvidia/cu13`, where packages for CUDA 13 are.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PACKAGES = (
    # Each after those that it needs: file, folder in packages for CUDA 12, versions for CUDA 12 and for CUDA 13.
    ("libcudart.so", "cuda_runtime", 12, 13),
    ("libnvrtc.so", "cuda_nvrtc", 12, 13),
    ("libnvJitLink.so", "nvjitlink", 12, 13),
    ("libcublasLt.so", "cublas", 12, 13),
    ("libcublas.so", "cublas", 12, 13),
    ("libcurand.so", "curand", 10, 10),
    ("libcufft.so", "cufft", 11, 12),
    # Finds its other parts, which are beside it, by itself.
    ("libcudnn.so", "cudnn", 9, 9),
)
PROVIDER = "libonnxruntime_providers_cuda.so"
BRIDGE = "libonnxruntime_providers_shared.so"
"""What onnxruntime loads first, to tell providers where onnxruntime is."""


@dataclass(frozen=True)
class Library:
    """A shared library, known by its SONAME."""

    soname: str
    folders: tuple[str, ...] = ()
    """Where packages have it, below `nvidia`; none for one that only the system has."""
    requirement: str = ""
    """The package that has it, as pip takes it."""
    origin: str = ""
    """Where it comes from if no package has it."""


SYSTEM = (
    Library("libcuda.so.1", origin="comes with the GPU's driver"),
    Library("libz.so.1", origin="the system's zlib, which cuDNN needs"),
)


@dataclass(frozen=True)
class Problem:
    """A library that is not loaded."""

    library: Library
    messages: tuple[str, ...] = ()
    """Of the loader, about each file that it refused; none if there is no such file."""


def libraries(cuda_version: str) -> list[Library]:
    """Returns what the provider of an onnxruntime built with this CUDA needs, in order; nothing if it is not 12 or 13.

    No onnxruntime needs all of them, and which ones it needs changes from version to version.
    """
    major = cuda_version.partition(".")[0]
    if major not in ("12", "13"):
        return []
    needed = []
    for file, folder, for_12, for_13 in PACKAGES:
        version = for_13 if major == "13" else for_12
        # Packages for CUDA 13 are named after CUDA no more, but for cuDNN's.
        suffix = f"-cu{major}" if major == "12" or folder == "cudnn" else ""
        requirement = f"nvidia-{folder.replace('_', '-')}{suffix}=={version}.*"
        needed.append(Library(f"{file}.{version}", (f"{folder}/lib", f"cu{major}/lib"), requirement))
    return [*needed, *SYSTEM]


def package_folders() -> list[Path]:
    """Returns the folders `nvidia` on Python's path; packages may be in several, apart from onnxruntime."""
    spec = importlib.util.find_spec("nvidia")
    found = list(spec.submodule_search_locations or []) if spec is not None else []
    # Some packages for CUDA 12 have a file nvidia/__init__.py, which hides all other folders from find_spec.
    found += [str(Path(entry) / "nvidia") for entry in sys.path]
    return [folder for folder in map(Path, dict.fromkeys(found)) if folder.is_dir()]


def load(wanted: Sequence[Library], roots: Sequence[Path]) -> list[Problem]:
    """Loads libraries from `roots`, else from where the system finds them; returns those that are not to be had.

    Whatever is loaded already, by PyTorch for example, stays the only one of its SONAME. Packages come before what the
    system has, as they do in PyTorch: imported later, it must not meet an older version than it was built with.
    """
    attempts = [_load(library, roots) for library in wanted]
    return [problem for problem in attempts if problem is not None]


def load_for(runtime: ModuleType) -> list[Problem]:
    """Loads what this onnxruntime's CUDA provider needs; returns what is not to be had."""
    return load(libraries(str(getattr(runtime, "cuda_version", ""))), package_folders())


def load_runtime(message: str) -> list[Problem]:
    """Loads CUDA's runtime library if the loader's `message` is about it; returns it if it is not to be had."""
    version = re.search(r"libcudart\.so\.(\d+)", message)
    return load(libraries(version[1])[:1], package_folders()) if version else []


def explain(problems: Sequence[Problem]) -> str:
    """Returns sentences about libraries that are not loaded: which, the loader's words, where to get them."""
    sentences = []
    absent = [problem.library for problem in problems if not problem.messages]
    if absent:
        names = [f"{library.soname} ({library.origin})" if library.origin else library.soname for library in absent]
        sentences.append(f"Not found: {', '.join(names)}.")
    sentences += [f"Not loaded: {message}." for problem in problems for message in problem.messages]
    requirements = dict.fromkeys(problem.library.requirement for problem in problems if problem.library.requirement)
    if requirements:
        quoted = " ".join(f"'{requirement}'" for requirement in requirements)
        sentences.append(f"Try `pip install {quoted}`, or name their folders in LD_LIBRARY_PATH.")
    return " ".join(sentences)


def provider_refusal(runtime: ModuleType) -> str | None:
    """Returns the loader's message about the library of the CUDA provider, or None if it can be loaded.

    Also None where onnxruntime has not tried to load it yet: loaded before onnxruntime's bridge, it would hold a null
    pointer to onnxruntime for as long as the process lives.
    """
    folder = Path(runtime.__file__ or "").parent / "capi"
    if _refusal(folder / BRIDGE, os.RTLD_NOLOAD) is not None:
        return None
    return _refusal(folder / PROVIDER)


def _load(library: Library, roots: Sequence[Path]) -> Problem | None:
    if _refusal(library.soname, os.RTLD_NOLOAD) is None:
        return None
    messages = []
    files = (root / folder / library.soname for root in roots for folder in library.folders)
    for name in (*(str(file) for file in files if file.is_file()), library.soname):
        message = _refusal(name, os.RTLD_GLOBAL)
        if message is None:
            return None
        messages.append(message if name in message else f"{name}: {message}")
    if messages[-1].startswith(f"{library.soname}: cannot open shared object file: No such file"):
        messages.pop()  # the system has none, which is no refusal
    return Problem(library, tuple(messages))


def _refusal(name: str | Path, mode: int = 0) -> str | None:
    """Loads a library for good; returns the loader's message if it could not."""
    try:
        ctypes.CDLL(str(name), mode=mode)
    except OSError as error:
        return str(error)
    return None
