"""What every part's process finds in its environment, and what the machine is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from tools.cpp_build import ROOT
from tools.gpu_check.prebuilt import nvcc

PLAIN_OUTPUT = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "110"}
"""Output that is read in a log while it comes."""


def unpack(bundle: Path, site: Path) -> None:
    """Unpacks what tools.gpu_bundle packed into a folder, and has this process look for packages there first."""
    with tarfile.open(bundle) as archive:
        archive.extractall(site, filter="data")
    sys.path.insert(0, str(site))


def environment(site: Path, search: list[str] | None = None) -> dict[str, str]:
    """Returns the variables of every part; packages in `site` come first.

    Libraries in NVIDIA's packages are put on LD_LIBRARY_PATH: some versions of onnxruntime cannot be imported where the
    loader does not find CUDA's runtime, and tests import onnxruntime by themselves.
    """
    places = sys.path if search is None else search
    libraries = [str(path) for place in places for path in sorted(Path(place or ".").glob("nvidia/*/lib"))]
    return PLAIN_OUTPUT | {
        "PYTHONPATH": _joined([str(site)], "PYTHONPATH"),
        "LD_LIBRARY_PATH": _joined(libraries, "LD_LIBRARY_PATH"),
    }


def _joined(first: list[str], variable: str) -> str:
    """The places before those that the variable has already; an empty one would mean the current folder."""
    return os.pathsep.join(dict.fromkeys(filter(None, [*first, *os.environ.get(variable, "").split(os.pathsep)])))


def answer_of(command: list[str]) -> str:
    """Returns the first line that a program prints (nvcc's last), or why it does not."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not available ({error})"
    lines = [line for line in (result.stdout or result.stderr).splitlines() if line.strip()]
    return lines[-1 if "nvcc" in command[0] else 0].strip() if lines else "no answer"


def describe(variables: dict[str, str]) -> dict[str, Any]:
    """Returns GPU, driver, compiler and packages; those are asked in a process of their own, as imports may crash."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    command = [sys.executable, "-m", "tools.gpu_check.packages"]
    try:
        result = subprocess.run(
            command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=True
        )
        packages = json.loads(result.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        packages = {"packages": f"missing ({error})"}
    machine = {"gpu": answer_of(query), "nvcc": answer_of([nvcc(), "--version"]), "processors": os.cpu_count()}
    return machine | {"packages": packages}


def missing_packages(machine: dict[str, Any], needed: tuple[str, ...]) -> list[str]:
    """Returns those of the needed packages that are missing, each with the reason."""
    found = machine["packages"]
    if "packages" in found:  # the process failed; the parts themselves say what is wrong
        return []
    return [f"{name} {found[name]}" for name in needed if found[name].startswith("missing")]
