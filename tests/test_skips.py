"""A run's last lines tell what was skipped, and why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.cpp_build import ROOT

TESTS = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_of_a_package(number):
    pytest.skip("could not download it")

@pytest.mark.skipif(True, reason="there is no GPU")
def test_of_a_gpu(): ...

def test_of_nothing(): ...
"""


def test_a_run_says_how_many_tests_were_skipped_for_which_reason(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in done.stdout.splitlines()]
    title = next(place for place, line in enumerate(lines) if line.strip("= ") == "3 tests were skipped")
    assert lines[title + 1 : title + 3] == ["2 could not download it", "1 there is no GPU"]
