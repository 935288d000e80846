"""The command: runs the parts one after the other, or says what it would do."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.cpp_build import ROOT
from tools.gpu_check.parts import BUILD, Part, all_parts, nvcc
from tools.gpu_check.summary import print_summary, read_lines

SECONDS = 460
"""The whole check stays within 8 minutes, without what is optional."""
OUTPUT = ROOT / "docs" / "results" / "gpu.json"
NEEDED = ("numpy", "onnx", "onnxruntime", "onnx_graphsurgeon", "pydantic", "hypothesis", "pytest", "rich", "typer")
USEFUL = ("cupy",)
MODULES = (
    "tools.gpu_check.measure",
    "tools.gpu_check.models",
    "tests.cuda.test_operators_on_cuda",
    "tests.cuda.test_sessions_on_cuda",
)
TAIL = 3000
"""Characters of a part's output that the report keeps."""


def run_part(part: Part, log: Path) -> dict[str, Any]:
    """Runs a part with its limit; whatever it started ends with it."""
    start = time.monotonic()
    missing = [program for program in part.programs if shutil.which(program) is None]
    if missing:
        return {"status": f"skipped: {', '.join(missing)} not found", "seconds": 0.0}
    with log.open("w") as stream:
        try:
            process = subprocess.Popen(
                part.command, cwd=ROOT, env=os.environ | part.variables, stdout=stream, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return {"status": f"failed: {error}", "seconds": 0.0}
        try:
            code = process.wait(part.limit)
            status = "passed" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = f"stopped after {part.limit} seconds"
    tail = log.read_text(errors="replace")[-TAIL:]
    return {"status": status, "seconds": round(time.monotonic() - start, 1), "output": tail}


def answer_of(command: list[str]) -> str:
    """Returns the first line that a program prints, or why it does not."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not available ({error})"
    lines = [line for line in (result.stdout or result.stderr).splitlines() if line.strip()]
    return lines[-1 if "nvcc" in command[0] else 0].strip() if lines else "no answer"


def describe() -> dict[str, Any]:
    """Returns GPU, driver, compiler and packages."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    packages = {}
    for name in (*NEEDED, *USEFUL):
        try:
            packages[name] = str(getattr(importlib.import_module(name), "__version__", "present"))
        except Exception as error:
            packages[name] = f"missing ({type(error).__name__}: {error})"
    providers = ""
    if not packages["onnxruntime"].startswith("missing"):
        providers = ", ".join(importlib.import_module("onnxruntime").get_available_providers())
    return {
        "gpu": answer_of(query),
        "nvcc": answer_of([nvcc(), "--version"]),
        "packages": packages,
        "providers": providers,
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Writes the report anew, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(path)


def check(parts: list[Part], results: Path, output: Path) -> int:
    """Runs all parts and returns the exit code: 0 if none failed."""
    report: dict[str, Any] = {"machine": describe(), "parts": {}, "layers": [], "networks": []}
    for key, value in report["machine"].items():
        print(f"{key}: {value}", flush=True)
    for part in parts:
        print(f"\n== {part.name} (at most {part.limit} s): {part.what}", flush=True)
        report["parts"][part.name] = run_part(part, results / f"{part.name}.log")
        print(f"{part.name}: {report['parts'][part.name]['status']}", flush=True)
        for kind in ("layers", "networks"):
            report[kind] = read_lines(results / f"{kind}.jsonl")
        write(report, output)
        if part.name == "build" and report["parts"]["build"]["status"] != "passed":
            print(report["parts"]["build"].get("output", ""))
            break
    print_summary(report)
    print(f"\nall of it: {output}")
    return 0 if all(each["status"] == "passed" for each in report["parts"].values()) else 1


def explain(parts: list[Part], output: Path, smoke: bool) -> int:
    """Says what would be done, and checks what can be checked without a GPU."""
    problems: list[str] = []
    absent: list[str] = []
    machine = describe()
    print(f"GPU: {machine['gpu']}\nnvcc: {machine['nvcc']}\nproviders of onnxruntime: {machine['providers']}")
    for name, version in machine["packages"].items():
        print(f"  {name}: {version}")
        if version.startswith("missing") and name in NEEDED:
            problems.append(f"the package {name} is missing")
    for part in parts:
        print(f"\n{part.name}, at most {part.limit} s: {part.what}")
        print("  " + shlex.join([*(f"{k}={v}" for k, v in part.variables.items()), *part.command]))
        for program in part.programs:
            if shutil.which(program) is None:
                print(f"  {program}: NOT FOUND")
                absent.append(program)
    print(f"\nresults go to {output}")
    for module in MODULES:
        try:
            importlib.import_module(module)
        except Exception as error:
            problems.append(f"{module} cannot be imported: {error}")
    if smoke:
        problems += smoke_test()
    print("\n".join(["", *(f"not ready: {problem}" for problem in problems)]))
    if not problems:
        there = f"{', '.join(sorted(set(absent)))} and a GPU are" if absent else "a GPU is"
        print(f"ready where {there}")
    return 1 if problems else 0


def smoke_test() -> list[str]:
    """Builds and runs every model of the measurements once on the CPU; returns what failed."""
    folder, problems = BUILD / "smoke", []
    for kind in ("layers", "networks"):
        command = [sys.executable, "-m", "tools.gpu_check.measure", kind, "--results", str(folder), "--smoke"]
        code = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode
        lines = read_lines(folder / f"{kind}.jsonl")
        print(f"{kind}: {len(lines)} lines of results on the CPU")
        problems += [f"{kind}: {line['failed']}" for line in lines if "failed" in line]
        if code != 0 or not lines:
            problems.append(f"measuring {kind} on the CPU ended with exit code {code}")
    return problems


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu_check", description="Proves and measures the CUDA operators."
    )
    parser.add_argument("--dry", action="store_true", help="only say what would be done, and what is missing for it")
    parser.add_argument(
        "--smoke", action="store_true", help="with --dry: also run every measured model once on the CPU"
    )
    parser.add_argument("--only", metavar="PART,...", help="run these parts only")
    parser.add_argument("--optional", action="store_true", help="also run the optional part, training: 7 minutes more")
    parser.add_argument("--architecture", default="90a-real", help="what to compile for (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for everything (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the report (default: %(default)s)")
    arguments = parser.parse_args()
    results = BUILD / "results"
    parts = all_parts(results, arguments.architecture, arguments.seconds)
    if arguments.only:
        wanted = arguments.only.split(",")
        unknown = sorted(set(wanted) - {part.name for part in parts})
        if unknown:
            parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(part.name for part in parts)}")
        parts = [part for part in parts if part.name in wanted]
    elif not arguments.optional:
        parts = [part for part in parts if not part.optional]
    if arguments.dry:
        return explain(parts, arguments.output, arguments.smoke)
    results.mkdir(parents=True, exist_ok=True)
    return check(parts, results, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
