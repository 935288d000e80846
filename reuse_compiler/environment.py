"""What a result depends on besides the model: versions, processor, onnxruntime and its providers, the operator library.

Reports name the versions; `env()` tells everything, for reports of defects. What cannot be found out is said in the
value's place: nothing here raises.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import reuse_compiler
from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime import has_cuda, import_onnxruntime, library_path, library_version
from reuse_compiler.runtime.library import load_library

CPU_INFO = Path("/proc/cpuinfo")
GPUS = Path("/proc/driver/nvidia/gpus")
PACKAGE = "reuse-compiler"
INSTRUCTION_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2"),
)
"""Those that kernels of ours or of onnxruntime make use of, as Linux calls them."""
MISSING, UNKNOWN = "missing", "unknown"
REQUIREMENT = re.compile(r"""(?P<package>[\w.-]+)[^;]*;.*\bextra == ["'](?P<extra>[\w.-]+)["']""")
"""A line of a package's metadata about what one of its extras installs."""


class Environment(BaseModel):
    """Where this process runs; each value is a text, which says why if something was not found."""

    model_config = ConfigDict(frozen=True)

    versions: dict[str, str]
    platform: str
    processor: str
    instruction_sets: str
    """Those of the processor that matter for speed."""
    kernels: str
    """The instruction set that the CPU kernels are run with."""
    threads: str
    """How many processors this process may use."""
    gpus: str
    onnxruntime_build: str
    """In onnxruntime's own words."""
    onnxruntime_packages: str
    """Installed packages that bring it: with more than one, they overwrite each other's files."""
    providers: str
    library: str
    """Where the operator library is."""
    library_build: str
    variables: str
    """Environment variables of ours that are set."""
    extras: str
    """Optional parts of the package, and what of them is missing."""


def env() -> Environment:
    """Returns versions, processor, onnxruntime, operator library and extras; never raises, whatever is missing.

    `reuse-compile --env` prints it. `.model_dump_json(indent=2)` gives it to programs.
    """
    return Environment(
        versions=versions(),
        platform=_guarded(platform.platform),
        processor=_guarded(processor),
        instruction_sets=_guarded(_instruction_sets),
        kernels=_guarded(lambda: str(load_library().reuse_isa().decode())),
        threads=_guarded(lambda: f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} processors"),
        gpus=_guarded(_gpus),
        onnxruntime_build=_guarded(lambda: str(import_onnxruntime().get_build_info())),
        onnxruntime_packages=_guarded(_onnxruntime_packages),
        providers=_guarded(lambda: ", ".join(import_onnxruntime().get_available_providers())),
        library=_guarded(library_path),
        library_build=_guarded(lambda: f"{library_version()}, {'with' if has_cuda() else 'without'} CUDA kernels"),
        variables=_guarded(_variables),
        extras=_guarded(_extras),
    )


def versions() -> dict[str, str]:
    """Returns the versions of everything that a result depends on; of a part that is missing, that it is."""
    return {
        PACKAGE: reuse_compiler.__version__,
        "operators": _or_missing(library_version),
        "onnxruntime": _or_missing(lambda: str(import_onnxruntime().__version__)),
        "onnx": _installed("onnx"),
        "onnx-graphsurgeon": _installed("onnx-graphsurgeon"),
        "numpy": _installed("numpy"),
        "python": platform.python_version(),
    }


def processor() -> str:
    """Returns the processor's name where the system tells it, else its architecture."""
    return _of_processor("model name") or platform.machine()


def _guarded(probe: Callable[[], str]) -> str:
    """Returns what a probe finds; where it fails, in whatever way, why."""
    try:
        return probe()
    except LibraryError as error:
        return f"{UNKNOWN}: {error}"
    except Exception as error:
        return f"{UNKNOWN}: {type(error).__name__}: {error}"


def _or_missing(find: Callable[[], str]) -> str:
    try:
        return find()
    except Exception:  # a package that is broken may raise anything
        return MISSING


def _installed(package: str) -> str:
    return _or_missing(lambda: metadata.version(package))


def _of_processor(*names: str) -> str:
    """Returns what Linux says of the first processor under one of the names; "" if nothing."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in names:
                return value.strip()
    return ""


def _instruction_sets() -> str:
    found = set(_of_processor("flags", "Features").split())
    return " ".join(name for name in INSTRUCTION_SETS if name in found) or UNKNOWN


def _gpus() -> str:
    """NVIDIA's driver tells them, whether or not a program can use them."""
    files = sorted(GPUS.glob("*/information"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return ", ".join(line.partition(":")[2].strip() for line in lines if line.startswith("Model")) or "none found"


def _onnxruntime_packages() -> str:
    found = {f"{each.name} {each.version}" for each in metadata.distributions() if each.name.startswith("onnxruntime")}
    return ", ".join(sorted(found)) or "none"


def _variables() -> str:
    ours = {name: os.environ[name] for name in sorted(os.environ) if name.startswith("REUSE_")}
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in ours.items()) or "none"


def _extras() -> str:
    missing: dict[str, list[str]] = {}
    for line in metadata.requires(PACKAGE) or ():
        if match := REQUIREMENT.match(line):
            absent = missing.setdefault(match["extra"], [])
            if _installed(match["package"]) == MISSING:
                absent.append(match["package"])
    return "; ".join(
        f"{extra} without {', '.join(absent)}" if absent else f"{extra} complete" for extra, absent in missing.items()
    )
