"""Running a fuzzer's cases in workers, and writing down what fails with the command that repeats it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from reuse_compiler.progress import ProgressCallback, silent
from tools.fuzz.worker import CPU_SECONDS, Check, Worker

CASES_PER_WORKER = 1000
"""Then a new process takes over, so that one case's leak is not another's failure."""


@dataclass(frozen=True)
class Failure:
    """A case that failed, and the folder with its files and the text failure.txt."""

    case: int
    reason: str
    folder: Path


class Run:
    """One fuzzer's cases from one seed; `command` repeats one when `--case N` is appended."""

    def __init__(self, name: str, check: Check, seed: int, command: str, results: Path) -> None:
        self._name, self._check, self._seed, self._command, self._results = name, check, seed, command, results
        self.failures: list[Failure] = []
        self.done = 0

    def run(
        self,
        cases: Iterable[int],
        workers: int = 2,
        total: int = 0,
        progress: ProgressCallback = silent,
        cpu_seconds: float = CPU_SECONDS,
    ) -> None:
        """Runs the cases; workers that fail are replaced by new ones."""
        pending = iter(cases)
        with tempfile.TemporaryDirectory(prefix="fuzz_") as scratch:
            started = 0

            def start() -> Worker:
                nonlocal started
                started += 1
                return Worker(self._check, self._seed, Path(scratch) / str(started), cpu_seconds)

            busy: dict[object, Worker] = {}

            def give(worker: Worker | None) -> None:
                """Gives the worker, or a new one in its place, the next case if there is one."""
                case = next(pending, None)
                if worker is not None and (case is None or not worker.is_alive or worker.cases >= CASES_PER_WORKER):
                    worker.end()
                    worker = None
                if case is not None:
                    worker = worker or start()
                    worker.begin(case)
                    busy[worker.connection] = worker

            try:
                for _ in range(workers):
                    give(None)
                while busy:
                    for connection in wait([worker.connection for worker in busy.values()], timeout=1):
                        worker = busy.pop(connection)
                        reason = worker.answer()
                        if reason:
                            self._record(worker, reason)
                        self.done += 1
                        progress(self._name, self.done, total)
                        give(worker)
                    for worker in [worker for worker in busy.values() if worker.hangs()]:
                        del busy[worker.connection]
                        self._record(worker, "the case did not come to an end")
                        self.done += 1
                        worker.end()
                        give(None)
            finally:
                for worker in busy.values():
                    worker.end()

    def _record(self, worker: Worker, reason: str) -> None:
        folder = self._results / f"{self._name}-{self._seed}-{worker.case}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(worker.folder, folder) if worker.folder.exists() else folder.mkdir(parents=True)
        text = f"{self._command} --case {worker.case}\n\n{reason}\n{worker.output()}"
        (folder / "failure.txt").write_text(text, encoding="utf-8", errors="replace")
        self.failures.append(Failure(worker.case, reason.strip().splitlines()[-1], folder))
