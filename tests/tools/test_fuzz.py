"""The fuzzers: a short run of each finds nothing, and what fails, crashes, hangs or takes too much memory is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from reuse_compiler.pipeline import lower
from tests.tools.fuzz_checks import crashes, fails, hangs, takes_memory, waits
from tools.fuzz import geometries
from tools.fuzz.__main__ import FUZZERS, app
from tools.fuzz.run import Run
from tools.fuzz.worker import Check, Limits

ROUNDS = {"nodes": 400, "geometries": 150, "models": 60, "files": 100, "concurrent": 6}


@pytest.mark.parametrize("name", FUZZERS)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    rounds = str(ROUNDS[name])
    result = CliRunner().invoke(app, [name, "--seed", "0", "--rounds", rounds, "-o", str(tmp_path / "results")])
    assert result.output == f"{name}: {rounds} cases of seed 0, 0 failed\n" and result.exit_code == 0


@pytest.mark.parametrize(
    ("check", "reason", "printed"),
    [
        (fails, "AssertionError: it is odd", "about to look"),
        (crashes, "the process ended with SIGABRT", "about to crash"),
        (hangs, "the process ended with SIGXCPU", ""),
        (takes_memory, "Unable to allocate 4.00 GiB", ""),
    ],
)
def test_what_goes_wrong_is_kept_with_the_command_that_repeats_it(
    check: Check, reason: str, printed: str, tmp_path: Path
) -> None:
    def run(cases: range) -> Run:
        made = Run("fuzzer", check, 7, "command --seed 7", tmp_path / "results", Limits(cpu_seconds=1))
        made.run(cases)
        assert made.done == len(cases)
        return made

    [failure] = run(range(4, 6)).failures  # an odd case, and one that is not
    assert reason in failure.reason
    assert failure.folder == tmp_path / "results" / "fuzzer-7-4"
    assert (failure.folder / "input").read_text() == "odd"
    text = (failure.folder / "failure.txt").read_text()
    assert text.startswith("command --seed 7 --case 4\n") and printed in text
    assert [failure.case for failure in run(range(4, 5)).failures] == [4]


def test_a_case_that_waits_for_ever_is_ended(tmp_path: Path) -> None:
    run = Run("fuzzer", waits, 7, "command --seed 7", tmp_path, Limits(seconds=0))
    run.run(range(3))
    assert [failure.reason for failure in run.failures] == ["the case waits for ever"] * 3


def test_a_failure_ends_the_command_with_1_and_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUZZERS, "nodes", (fails, 6))
    result = CliRunner().invoke(app, ["nodes", "--seed", "7", "-o", str(tmp_path)])
    assert result.exit_code == 1
    command = re.search(r"python -m tools\.fuzz (nodes --seed 7 --case \d+): AssertionError: it is odd", result.output)
    assert command is not None
    again = CliRunner().invoke(app, [*command[1].split(), "-o", str(tmp_path)])
    assert again.exit_code == 1 and "nodes: 1 cases of seed 7, 1 failed" in again.output


def test_unknown_fuzzers_are_refused() -> None:
    result = CliRunner().invoke(app, ["nodes", "edges"])
    assert result.exit_code == 2 and "there is no fuzzer edges" in result.stderr


def _spoiled(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `compute` with a weight of the model that it lowers changed afterwards."""

    def spoil(*arguments: Any) -> Any:
        lowered = compute(*arguments)
        for weights in lowered.model.graph.initializer:
            if weights.name == "w":
                values = numpy_helper.to_array(weights).copy()
                values.reshape(-1)[0] += 1
                weights.CopyFrom(numpy_helper.from_array(values, "w"))
        return lowered

    return spoil


def test_a_wrong_weight_is_a_wrong_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometries, "lower", _spoiled(lower))
    found = 0
    for seed in range(20):
        try:
            geometries.check(np.random.default_rng(seed), tmp_path)
        except AssertionError as error:
            found += "against the oracle" in str(error)
    assert found >= 3
