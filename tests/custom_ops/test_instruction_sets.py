"""Instruction sets: what REUSE_ISA may be is said where a session or the library is made, as it is read once.

And what is compiled for one of them stays with those who have it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.custom_ops.cuda_host import FOLDER, build_target

REGISTER = """
import onnxruntime
from reuse_compiler.runtime.library import library_path
onnxruntime.SessionOptions().register_custom_ops_library(library_path())
"""
LOAD = """
from reuse_compiler.runtime.library import load_library
print(load_library().reuse_isa().decode())
"""
ON_ARM = platform.machine() in {"aarch64", "arm64"}
KNOWN = ["neon"] if ON_ARM else ["baseline", "avx2", "avx512"]  # all machines of the kind have the first
FOREIGN = "avx2" if ON_ARM else "neon"
LISTED = "neon, or" if ON_ARM else "baseline, avx2 or avx512"


def run(code: str, isa: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"REUSE_ISA": isa}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("isa", ["sse9", FOREIGN])
@pytest.mark.parametrize(("code", "error"), [(REGISTER, "InvalidArgument|Fail"), (LOAD, "LibraryError")])
def test_an_unknown_instruction_set_is_an_error_that_lists_the_known(code: str, error: str, isa: str) -> None:
    result = run(code, isa)
    assert result.returncode == 1, result  # an exception, no signal
    assert f"REUSE_ISA in the environment is '{isa}': set it to {LISTED}" in result.stderr
    assert any(name in result.stderr for name in error.split("|"))


@pytest.mark.parametrize("isa", [*KNOWN, ""])
def test_a_known_one_is_used_if_the_machine_has_it(isa: str) -> None:
    result = run(LOAD, isa)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ({isa, KNOWN[0]} if isa else KNOWN) and run(REGISTER, isa).returncode == 0


def test_no_function_for_one_instruction_set_is_run_by_others() -> None:
    """The build fails for a leak; that it would is seen by the two that it has to find."""
    build_target("symbols")
    reports = {path.stem: path.read_text().split() for path in (FOLDER / "tests").glob("symbols_*.txt")}
    leaks = reports.pop("symbols_leaky")
    assert f"symbols_{KNOWN[0]}" in reports and not any(reports.values()), reports
    assert any("shared" in word for word in leaks) and any("_GLOBAL__sub_I" in word for word in leaks), leaks
