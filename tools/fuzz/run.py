"""Running a fuzzer's cases in workers, and writing down what fails with the command that repeats it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from reuse_compiler.progress import ProgressCallback, silent
from tools.fuzz.worker import Check, Limits, Worker

CASES_PER_WORKER = 1000
"""Then a new process takes over, so that one case's leak is not another's failure."""


@dataclass(frozen=True)
class Failure:
    """A case that failed, and the folder with its files and the text failure.txt."""

    case: int
    reason: str
    folder: Path


class Run:
    """One fuzzer's cases of one seed; `command` repeats one when `--case N` is appended."""

    def __init__(
        self, name: str, check: Check, seed: int, command: str, results: Path, limits: Limits | None = None
    ) -> None:
        self._name, self._check, self._seed, self._command, self._results = name, check, seed, command, results
        self._limits = limits or Limits()
        self.failures: list[Failure] = []
        self.done = 0

    def run(self, cases: Iterable[int], workers: int = 2, total: int = 0, progress: ProgressCallback = silent) -> None:
        """Runs the cases; workers that fail are replaced by new ones."""
        pending, busy, started = iter(cases), list[Worker](), 0
        with tempfile.TemporaryDirectory(prefix="fuzz_") as scratch:
            idle: list[Worker] = []
            try:
                while True:
                    while len(busy) < workers and (case := next(pending, None)) is not None:
                        if not idle:
                            started += 1
                            idle.append(Worker(self._check, self._seed, Path(scratch) / str(started), self._limits))
                        busy.append(idle.pop())
                        busy[-1].begin(case)
                    if not busy:
                        return
                    answered = wait([worker.connection for worker in busy], timeout=1)
                    ended = [worker for worker in busy if worker.connection in answered or worker.waits()]
                    for worker in ended:
                        busy.remove(worker)
                        answers = worker.connection in answered
                        self._record(worker, worker.answer() if answers else "the case waits for ever")
                        progress(self._name, self.done, total)
                        if answers and worker.is_alive and worker.cases < CASES_PER_WORKER:
                            idle.append(worker)
                        else:
                            worker.end()
            finally:
                for worker in busy + idle:
                    worker.end()

    def _record(self, worker: Worker, reason: str) -> None:
        """Counts a case, and keeps it if there is a reason."""
        self.done += 1
        if not reason:
            return
        folder = self._results / f"{self._name}-{self._seed}-{worker.case}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in worker.folder.rglob("*"):
            target = folder / file.relative_to(worker.folder)
            if file.is_dir() or file.is_file():
                target.mkdir() if file.is_dir() else shutil.copyfile(file, target)
        text = f"{self._command} --case {worker.case}\n\n{reason}\n{worker.output()}"
        (folder / "failure.txt").write_text(text, encoding="utf-8", errors="replace")
        self.failures.append(Failure(worker.case, reason.strip().splitlines()[-1], folder))
