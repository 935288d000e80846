"""Runs one part: its output goes to the terminal and the log as it comes, and all that it started ends with it."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import pty
import select
import signal
import subprocess
import time
import tty
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from tools.cpp_build import ROOT
from tools.gpu_check.parts import PACE, Part

TAIL = 3000
"""Characters of a part's output that the report keeps."""
MARGIN = 10
"""Seconds between the end that a part knows of and its limit."""
LOOK = 0.2
"""Seconds after which it is looked whether a silent part has ended."""
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Outcome:
    """What became of a part."""

    status: str
    seconds: float = 0.0
    output: str = ""
    """Its last lines."""

    @property
    def failed(self) -> bool:
        """Whether something is wrong; what was left out for want of time or tools says so in its status."""
        return not self.status.startswith(("passed", "skipped"))


class Log:
    """Text for the terminal and a file, both at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8", errors="replace")

    def __call__(self, text: str, end: str = "\n") -> None:
        self._file.write(text + end)
        self._file.flush()
        with contextlib.suppress(OSError):  # a terminal that is gone must not end the check
            print(text, end=end, flush=True)


class Stop:
    """Whether the check was told to end, by Ctrl-C, SIGTERM or SIGHUP; as a context it listens to them."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signal = number


def end_with_parent() -> None:
    """For the case that the check itself is killed; called in the child before its program starts."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class _Output:
    """The reading end of a part's output; a terminal, as programs hold back what they write to a pipe."""

    def __init__(self, log: Log) -> None:
        try:
            self._reading, self.writing = pty.openpty()
            tty.setraw(self.writing)
        except OSError:
            self._reading, self.writing = os.pipe()
        self._log, self._decoder = log, codecs.getincrementaldecoder("utf-8")("replace")
        self.tail = ""
        self.closed = False

    def pass_on(self, patience: float) -> bool:
        """Passes on what there is, waiting for it so long; returns whether there was any."""
        if self.closed or not select.select([self._reading], [], [], patience)[0]:
            return False
        try:
            data = os.read(self._reading, 1 << 16)
        except OSError:  # a terminal says so when nobody writes to it any more
            data = b""
        self.closed = not data
        text = self._decoder.decode(data, final=self.closed)
        self.tail = (self.tail + text)[-TAIL:]
        self._log(text, end="")
        return bool(data)

    def close(self) -> None:
        os.close(self._reading)


@dataclass(frozen=True)
class Runner:
    """What parts run with."""

    variables: dict[str, str]
    """Of the environment, for all parts."""
    log: Log
    stop: Stop

    def run(self, part: Part, limit: int) -> Outcome:
        """Runs a part for at most `limit` seconds."""
        start = time.monotonic()
        command = [word.replace(PACE, str(max(1, limit - MARGIN))) for word in part.command]
        output = _Output(self.log)
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | self.variables | part.variables, stdin=subprocess.DEVNULL,
                stdout=output.writing, stderr=output.writing, process_group=0, preexec_fn=end_with_parent,
            )  # fmt: skip
        except OSError as error:
            output.close()
            return Outcome(f"failed: {error}")
        finally:
            os.close(output.writing)
        try:
            status = _follow(process, output, start + limit, self.stop) or f"stopped after {limit} seconds"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        while output.pass_on(0):
            pass
        output.close()
        if output.tail and not output.tail.endswith("\n"):
            self.log("")
        return Outcome(status, round(time.monotonic() - start, 1), output.tail)


def _follow(process: subprocess.Popen[bytes], output: _Output, end: float, stop: Stop) -> str | None:
    """Passes output on while the process runs; returns how it ended, or None when time was up."""
    while (code := process.poll()) is None:
        if stop.signal is not None:
            return f"interrupted by {signal.Signals(stop.signal).name}"
        patience = min(LOOK, end - time.monotonic())
        if patience <= 0:
            return None
        if output.closed:
            time.sleep(patience)
        else:
            output.pass_on(patience)
    if code == 0:
        return "passed"
    return f"failed with exit code {code}" if code > 0 else f"failed: ended by {signal.Signals(-code).name}"
