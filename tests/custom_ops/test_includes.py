"""What a C++ file may include: kernels know nothing of who calls them, and callers nothing of how kernels are made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.cpp_build import ROOT

SOURCES = ROOT / "custom_ops"
SEEN = {
    "include": {"include"},
    "cpu": {"include", "cpu"},
    "cuda": {"include", "cuda"},
    "capi": {"include", "capi"},
    "ort": {"include", "ort"},
}
"""The folders whose files the files of each folder may include."""
QUOTED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
SYSTEM = re.compile(r"^\s*#\s*include\s*<([^>]+)>", re.MULTILINE)
PER_INSTRUCTION_SET = ("*_kernels.cc", "*_kernels.h", "lanes.h", "kernels.h")


def sources(folder: str) -> list[Path]:
    return [path for path in sorted((SOURCES / folder).rglob("*")) if path.suffix in {".h", ".cc", ".cu"}]


def folder_of(path: Path, included: str) -> str:
    """Returns the folder of custom_ops that the compiler finds an included file in."""
    found = [base / included for base in (path.parent, SOURCES / "include") if (base / included).is_file()]
    assert found, f"{path} includes {included}, which is nowhere"
    return found[0].resolve().relative_to(SOURCES).parts[0]


@pytest.mark.parametrize("folder", SEEN)
def test_files_include_only_what_they_may_know(folder: str) -> None:
    included = {
        (path, name): folder_of(path, name) for path in sources(folder) for name in QUOTED.findall(path.read_text())
    }
    assert included
    wrong = [f"{path}: {name}" for (path, name), found in included.items() if found not in SEEN[folder]]
    assert not wrong, f"{folder}/ may include files of {sorted(SEEN[folder])} only: {wrong}"


@pytest.mark.parametrize("folder", ["include", "cpu", "cuda"])
def test_kernels_know_no_runtime_and_no_python(folder: str) -> None:
    wrong = [
        path
        for path in sources(folder)
        if re.search(r"#\s*include\s*[<\"](onnxruntime|Python|pybind)", path.read_text())
    ]
    assert not wrong


def test_sources_of_one_instruction_set_include_c_headers_only() -> None:
    """An inline function of the C++ library, compiled for AVX-512, may be the copy that every machine runs."""
    paths = [path for pattern in PER_INSTRUCTION_SET for path in (SOURCES / "cpu" / "simd").glob(pattern)]
    names = [(path.name, name) for path in paths for name in SYSTEM.findall(path.read_text())]
    assert names and all(name.endswith(".h") for _, name in names), names
