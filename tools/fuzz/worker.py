"""A process that runs a fuzzer's cases one after another, and what its end, its silence or its answer means."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import shutil
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

Check = Callable[[np.random.Generator, Path], None]
"""Runs one case drawn from the generator, in an empty folder; raises whatever is wrong."""

MEMORY = 2 * 2**30
"""Bytes that the cases of a worker may take."""
CPU_SECONDS = 60.0
"""Time of its own that a case may take, which does not depend on what else the machine does."""
SECONDS = 900.0
"""Time on the clock after which a case that does nothing is one that waits for ever."""
TOO_LARGE = ("allocation-size-too-big", "out-of-memory", "calloc-overflow")
"""What AddressSanitizer ends a process with where other programs get std::bad_alloc."""


class Worker:
    """A process with a folder for the current case and a log of all that it prints."""

    def __init__(self, check: Check, seed: int, folder: Path, cpu_seconds: float = CPU_SECONDS) -> None:
        self.folder, self.log = folder / "case", folder / "log"
        self._cpu_seconds = cpu_seconds
        folder.mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(check, seed, self.folder, self.log, other), daemon=True)
        self._process.start()
        other.close()
        self.case, self.cases = -1, 0

    def begin(self, case: int) -> None:
        """Has a case run."""
        self.case, self.cases = case, self.cases + 1
        self._cpu, self._began = self._cpu_time(), time.monotonic()
        self.connection.send(case)

    def answer(self) -> str:
        """Returns what is wrong with the case that was run, or "" if nothing is."""
        try:
            return str(self.connection.recv())
        except (EOFError, ConnectionError):
            self._process.join()
            if any(word in self.output() for word in TOO_LARGE):
                return ""
            return f"the process ended with exit code {self._process.exitcode}"

    def hangs(self) -> bool:
        """Whether the case takes longer than any may."""
        return (
            self._cpu_time() - self._cpu > self._cpu_seconds or time.monotonic() - self._began > SECONDS
        )  # fmt: skip

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

    def _cpu_time(self) -> float:
        """Seconds of processor time that the process has used; 0 if it has ended."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _serve(check: Check, seed: int, folder: Path, log: Path, connection: Connection) -> None:
    with log.open("wb", buffering=0) as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    faulthandler.enable()
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
        os.ftruncate(2, 0)
        try:
            check(np.random.default_rng([seed, case]), folder)
        except BaseException:
            connection.send(traceback.format_exc())
        else:
            connection.send("")
