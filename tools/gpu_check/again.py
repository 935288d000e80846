"""Measures in a process of its own, and goes on in another one where a measurement crashed it or lost it the GPU.

    python -m tools.gpu_check.again layers|networks --results FOLDER [--seconds N] [--smoke]

One kernel that writes where it must not would else cost all measurements after it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.gpu_check.results import LOST, begun_path, lines_path, read_arguments
from tools.gpu_check.runner import end_with_parent

WORTHWHILE = 15
"""Seconds: with less, another process would not come to measure anything."""
MEASURE = (sys.executable, "-m", "tools.gpu_check.measure")


def run(command: list[str], path: Path, seconds: float) -> int:
    """Runs the command, again if need be, and returns the last exit code; 1 if any process did not end well."""
    end, crashed, lines = time.monotonic() + seconds, False, -1
    while True:
        left = str(max(0.0, end - time.monotonic()))
        code = subprocess.call([*command, "--seconds", left], preexec_fn=end_with_parent)
        if code < 0 and begun_path(path).is_file():
            note_crash(path, f"ended by {signal.Signals(-code).name}")
        if code >= 0 and code != LOST:
            return 1 if crashed else code
        before, lines, crashed = lines, len(path.read_text().splitlines()) if path.is_file() else 0, True
        if lines <= before or end - time.monotonic() < WORTHWHILE:
            return 1
        print("going on in another process", flush=True)


def note_crash(path: Path, how: str) -> None:
    """Writes what was being measured as a line of the results, so that it is not tried again."""
    what = json.loads(begun_path(path).read_text())
    begun_path(path).unlink()
    with path.open("a") as stream:
        stream.write(json.dumps(what | {"failed": f"the process was {how}"}) + "\n")


def main() -> int:
    """Measures what the command line says."""
    arguments = read_arguments(__doc__)
    command = [*MEASURE, arguments.what, "--results", str(arguments.results), *(["--smoke"] * arguments.smoke)]
    return run(command, lines_path(arguments), arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
