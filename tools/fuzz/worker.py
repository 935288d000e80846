"""A process that runs a fuzzer's cases one after another, and what its end, its silence or its answer means."""

from __future__ import annotations

import faulthandler
import math
import multiprocessing
import os
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

Check = Callable[[np.random.Generator, Path], None]
"""Runs one case drawn from the generator, in an empty folder; raises whatever is wrong."""

MEMORY = 2 * 2**30
"""Bytes that the cases of a worker may take."""
TOO_LARGE = ("allocation-size-too-big", "out-of-memory", "calloc-overflow")
"""What AddressSanitizer ends a process with where other programs get std::bad_alloc."""


@dataclass(frozen=True)
class Limits:
    """What a case may take before it counts as one that never ends."""

    cpu_seconds: int = 60
    """Time of its own, which does not depend on what else the machine does."""
    seconds: float = 300.0
    """Time on the clock, for a case that waits for ever."""


class Worker:
    """A process with a folder for the current case and a log of all that it prints."""

    def __init__(self, check: Check, seed: int, folder: Path, limits: Limits) -> None:
        self.folder, self.log = folder / "case", folder / "log"
        self.case, self.cases, self._limits = -1, 0, limits
        folder.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (check, seed, self.folder, self.log, limits.cpu_seconds, other)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        other.close()

    def begin(self, case: int) -> None:
        """Has a case run."""
        self.case, self.cases, self._began = case, self.cases + 1, time.monotonic()
        self.connection.send(case)

    def answer(self) -> str:
        """Returns what is wrong with the case that was run, or "" if nothing is."""
        try:
            return str(self.connection.recv())
        except (EOFError, ConnectionError):
            self._process.join()
        if any(word in self.output() for word in TOO_LARGE):
            return ""
        code = self._process.exitcode or 0
        return f"the process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def waits(self) -> bool:
        """Whether the case has been running for longer than any may."""
        return time.monotonic() - self._began > self._limits.seconds

    def output(self) -> str:
        """Returns the end of what the process printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-20_000:] if self.log.exists() else ""

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(check: Check, seed: int, folder: Path, log: Path, cpu_seconds: int, connection: Connection) -> None:
    """Runs the cases that come through the connection, until it is closed or one ends the process."""
    with log.open("ab", buffering=0) as stream:  # appending: what is printed after a cut begins at its start
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # AddressSanitizer reserves terabytes
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        os.chdir(folder)  # where a relative name that the case makes up does no harm
        os.ftruncate(2, 0)
        # Beyond the limit the system ends the process with SIGXCPU.
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_seconds, resource.RLIM_INFINITY))
        try:
            check(np.random.default_rng([seed, case]), folder)
        except BaseException:
            connection.send(traceback.format_exc())
        else:
            connection.send("")
