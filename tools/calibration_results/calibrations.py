"""Runs the calibrations of a network: the very commands that a user would type, in processes of their own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from reuse_compiler.calibration.options import BudgetName, FamilyChoice, ScopeChoice
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.cli.command import BUDGET_BROKEN, NO_GAIN
from reuse_compiler.compiler import compile_file
from reuse_compiler.errors import ReuseError
from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.options import CompileOptions
from tools.calibration_results.networks import Network
from tools.calibration_results.prepare import Prepared
from tools.calibration_results.results import CalibrationRun, abridged

CALIBRATE = "reuse-calibrate", "reuse_compiler.cli.calibrate"
"""The command, and the module that it runs."""
RESULTS = 0, NO_GAIN, BUDGET_BROKEN
"""Exit codes that are results and no failures: a configuration was written."""
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024
COMPARED: BudgetName = "quick"
"""Budget of the calibrations that are there to be compared with."""


class CommandError(ReuseError):
    """A command of the project failed; it has said why on stderr."""


class Usage(NamedTuple):
    """What a process took."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Variant:
    """A calibration: what is asked for, and the names of its files."""

    name: str
    family: FamilyChoice
    budget: BudgetName
    reconstruct: Reconstruct = "weights"
    scope: ScopeChoice = "both"
    quantised: bool = False
    """Whether the int8 model is calibrated, with the original as its reference."""

    @property
    def stem(self) -> str:
        """The name without blanks."""
        return self.name.replace(" ", "_")


def variants(budget: BudgetName, reconstruct: bool, scopes: bool = False, quantised: bool = False) -> list[Variant]:
    """Returns the calibrations of a network; with `reconstruct`, those without or with less of it too.

    With `scopes`, those with one kind of clusters only; with `quantised`, that of the int8 model.
    """
    found = [Variant("learned", "learned", budget), Variant("sign", "sign", COMPARED)]
    found += [Variant("int8 learned", "learned", budget, quantised=True)] if quantised else []
    ways: tuple[Reconstruct, ...] = ("statistics", "none") if reconstruct else ()
    kinds: tuple[ScopeChoice, ...] = ("batch", "static") if scopes else ()
    found += [Variant(f"learned {way}", "learned", COMPARED, way) for way in ways]
    return found + [Variant(f"learned {kind}", "learned", COMPARED, scope=kind) for kind in kinds]


def calibrate(network: Network, prepared: Prepared, variant: Variant) -> tuple[CalibrationRun, Path]:
    """Calibrates and compiles; returns the report and the compiled model. Raises CommandError if that fails."""
    command, compile_command = commands(network, prepared, variant)
    usage = _run(command)
    shape = prepared.calibration.run_shape(network.batch)
    options = CompileOptions(config=configuration_path(prepared, variant), shapes={prepared.input_name: shape})
    compile_file(_model(prepared, variant), compiled_path(prepared, variant), options, overwrite=True, verify=False)
    folder = prepared.model.parent
    report = CalibrationReport.model_validate_json((folder / variant.stem / "report.json").read_bytes())
    run = CalibrationRun(
        variant=variant.name,
        command=shlex.join(command),
        compile_command=shlex.join(compile_command),
        seconds=usage.seconds,
        peak_bytes=usage.peak_bytes,
        report=abridged(report),
    )
    _record(folder, variant).write_text(run.model_dump_json(), encoding="utf-8")
    return run, compiled_path(prepared, variant)


def earlier(prepared: Prepared, variant: Variant) -> tuple[CalibrationRun, Path]:
    """Returns what `calibrate` returned the last time; raises CommandError if it never came to an end."""
    record, model = _record(prepared.model.parent, variant), compiled_path(prepared, variant)
    if not record.is_file() or not model.is_file():
        raise CommandError(f"there is no earlier calibration {variant.name} in {record.parent}: leave out --calibrated")
    return CalibrationRun.model_validate(json.loads(record.read_text(encoding="utf-8"))), model


def compiled_path(prepared: Prepared, variant: Variant) -> Path:
    """Returns where the compiled model goes."""
    return prepared.model.with_name(f"{variant.stem}.onnx")


def configuration_path(prepared: Prepared, variant: Variant) -> Path:
    """Returns where the configuration goes."""
    return prepared.model.with_name(f"{variant.stem}.reuse.json")


def commands(network: Network, prepared: Prepared, variant: Variant) -> tuple[list[str], list[str]]:
    """Returns the command lines that calibrate and that compile, without the flag that replaces earlier files."""
    config, model = str(configuration_path(prepared, variant)), str(_model(prepared, variant))
    flags = {
        "--reference": prepared.model if variant.quantised else None,
        "--data": prepared.calibration.inputs,
        "--labels": prepared.calibration.labels,
        "--batch": network.batch if network.batch > 1 else None,
        "--metric": network.metric,
        "--max-drop": network.max_drop,
        "--at-least": network.at_least,
        "--exclude": network.exclude,
        "--objective": network.objective if network.objective != "latency" else None,
        **{"--family": variant.family, "--budget": variant.budget, "--reconstruct": variant.reconstruct},
        "--scope": variant.scope if variant.scope != "both" else None,
        **{"-o": config, "--report": prepared.model.with_name(variant.stem)},
    }
    given = [
        (flag, f"{value:g}" if isinstance(value, float) else str(value))
        for flag, value in flags.items()
        if value is not None
    ]
    command = [CALIBRATE[0], model, *chain.from_iterable(given)]
    sizes = ",".join(map(str, prepared.calibration.run_shape(network.batch)))
    compile_command = ["reuse-compile", model, "--config", config, "--no-verify"]
    compile_command += ["--shape", f"{prepared.input_name}:{sizes}"]
    return command, [*compile_command, "-o", str(compiled_path(prepared, variant))]


def _model(prepared: Prepared, variant: Variant) -> Path:
    """Returns what a variant is made of."""
    return int8_path(prepared) if variant.quantised else prepared.model


def int8_path(prepared: Prepared) -> Path:
    """Returns where onnxruntime's int8 model goes."""
    return prepared.model.with_name("int8.onnx")


def _record(folder: Path, variant: Variant) -> Path:
    return folder / f"{variant.stem}.run.json"


def _run(command: Sequence[str]) -> Usage:
    """Runs the command CALIBRATE to its end; what it prints goes where this process's output goes."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", CALIBRATE[1], *command[1:], "--overwrite"])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in RESULTS:
        raise CommandError(f"{shlex.join(command)} ended with code {process.returncode}")
    return Usage(time.monotonic() - started, usage.ru_maxrss * BYTES_PER_MAXRSS)
