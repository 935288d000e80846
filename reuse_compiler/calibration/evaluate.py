"""Measures a model against the original on samples: the metric, the error of the outputs, and the time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np
import onnx

from reuse_compiler.calibration.activations import HELD_BYTES
from reuse_compiler.calibration.metrics import Accumulator, Metric, Outputs
from reuse_compiler.calibration.report import Flips, Score
from reuse_compiler.calibration.samples import Sample, Samples
from reuse_compiler.calibration.workers import SERIAL, Shared, Workers
from reuse_compiler.memory import give_back_freed
from reuse_compiler.processors import processors
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.verification.compare import Difference, largest_error
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, open_session, run_session, runner
from reuse_compiler.verification.timing import Turns, on_one_processor

if TYPE_CHECKING:
    import onnxruntime

PART = 8
"""Samples that a worker runs at a time."""
REFUSED_RUNS = 2
"""Interleaved runs of each model where the outputs are too bad anyway; the reported time is their median."""


@dataclass(frozen=True)
class Runs:
    """Some samples, for a model that is serialized."""

    model: Shared
    names: list[str]
    feeds: Sequence[Mapping[str, Shared]]


def run_part(task: Runs) -> list[Outputs]:
    """Runs the model on each of the samples."""
    model = onnx.load_from_string(task.model.array.tobytes())
    session = open_session(model, processors(), COMPILED)
    feeds = ({name: shared.array for name, shared in feed.items()} for feed in task.feeds)
    return [dict(zip(task.names, run_session(session, task.names, feed, COMPILED), strict=True)) for feed in feeds]


class Evaluator:
    """Compares models with the original on the same samples; what that gives is computed once if it is small.

    Outputs are computed with all processors, as they are the same for every number of threads; times are those of
    `threads`. Sessions are opened for a comparison and closed after it: what they hold would lie idle while layers are
    fitted.
    """

    def __init__(
        self,
        original: onnx.ModelProto,
        samples: Samples,
        metric: Metric,
        threads: int,
        progress: ProgressCallback = silent,
        what: str = "running the original model",
        workers: Workers = SERIAL,
        *,
        reference: onnx.ModelProto | None = None,
        timed_runs: int = 1,
        in_order: bool = False,
    ) -> None:
        """Times are medians of `timed_runs`. Samples that are `in_order` are a stream, timed as frames in a row.

        If there is a `reference`, outputs are compared with its, in place of the original's.
        """
        self._model, self._samples, self._metric, self._threads = original, samples, metric, threads
        self._reference = reference or original
        self._own: list[Outputs] = []
        """Outputs of the original on the first samples, where those that are held are the reference's."""
        self._workers, self._in_order, self._given = workers, in_order, samples
        self._timed_runs = timed_runs
        self._feeds: list[dict[str, Shared]] = []
        """The samples' inputs as workers take them, if there are any."""
        session = self._open(self._reference, ORIGINAL)
        self._names = [output.name for output in session.get_outputs()]
        self._held: list[Outputs] = []
        accumulator = metric.start()
        for index, (sample, outputs) in enumerate(self._originals(session)):
            progress(what, index, len(samples))
            accumulator.add(outputs, outputs, sample.labels)
        progress(what, len(samples), len(samples))
        self.original = accumulator.value()
        """The metric of the original model, or of the reference."""
        self.rows = accumulator.flips()
        """How many rows the metric counts, if it does."""

    def give(self, samples: Samples) -> None:
        """Gives models to be scored other inputs from now on, as the same samples held; the original has its own."""
        self._given, self._feeds = samples, []

    def score(
        self,
        model: onnx.ModelProto,
        progress: ProgressCallback = silent,
        what: str = "evaluating",
        is_hopeless: Callable[[Flips], bool] | None = None,
        accepts: Callable[[float, Flips | None], bool] | None = None,
    ) -> Score:
        """Runs a model on all samples; raises VerificationError if it does not run.

        With a metric that counts rows it ends as soon as `is_hopeless` says so of the rows so far. The time of a model
        whose value nobody `accepts` is measured less exactly.
        """
        accumulator, differences, stopped_after = self._compare(model, progress, what, is_hopeless)
        flips, value = accumulator.flips(), accumulator.value()
        if stopped_after is not None and flips is not None:
            value = self.original - flips.drop  # of all rows, as far as these can tell
        refused = accepts is not None and not accepts(value, flips)
        dense_ms, reuse_ms = self._time(model, REFUSED_RUNS if refused else self._timed_runs)
        return Score(
            value=value,
            drop=self._metric.drop(self.original, value),
            output_error=largest_error(differences),
            dense_ms=dense_ms,
            reuse_ms=reuse_ms,
            flips=flips,
            stopped_after=stopped_after,
        )

    def value(self, model: onnx.ModelProto, progress: ProgressCallback, what: str) -> tuple[float, Flips | None]:
        """Returns the metric of a model on all samples, and the rows that it counts, if it does; nothing is timed."""
        accumulator, _, _ = self._compare(model, progress, what, None)
        return accumulator.value(), accumulator.flips()

    def _compare(
        self,
        model: onnx.ModelProto,
        progress: ProgressCallback,
        what: str,
        is_hopeless: Callable[[Flips], bool] | None,
    ) -> tuple[Accumulator, dict[str, Difference], int | None]:
        """Runs a model on all samples, or as many as it takes to be hopeless, whose number is the last result.

        The outputs are gone when it returns: while one of them is there, so is all memory of its session.
        """
        accumulator, differences = self._metric.start(), {name: Difference() for name in self._names}
        stopped_after = None
        with closing(self._outputs(model)) as outputs:
            for index, ((sample, expected), actual) in enumerate(zip(self._originals(), outputs, strict=False)):
                progress(what, index, len(self._samples))
                accumulator.add(expected, actual, sample.labels)
                _add(differences, expected, actual)
                flips = accumulator.flips()
                if flips is not None and is_hopeless is not None and is_hopeless(flips):
                    stopped_after = index + 1
                    break
        progress(what, len(self._samples), len(self._samples))
        return accumulator, differences, stopped_after

    def output_error(self, model: onnx.ModelProto, runs: int) -> float:
        """Returns the relative L2 error of the model's outputs on the first runs, the largest of them.

        It is the error beside the original's own outputs, whatever the reference: of what the model itself changes.
        """
        compiled = self._open(model, COMPILED, keeps_memory=False)
        differences = {name: Difference() for name in self._names}
        for sample, expected in self._own_outputs(runs):
            _add(differences, expected, self._run(compiled, sample, COMPILED))
        return largest_error(differences)

    def _own_outputs(self, runs: int) -> Iterator[tuple[Sample, Outputs]]:
        """Yields the first samples with what the original itself gives."""
        if self._reference is self._model:
            yield from islice(self._originals(), runs)
            return
        if len(self._own) < runs:
            session = self._open(self._model, ORIGINAL, keeps_memory=False)
            self._own = [self._run(session, sample, ORIGINAL) for sample in islice(self._samples, runs)]
        yield from zip(islice(self._samples, runs), self._own, strict=False)

    def _outputs(self, model: onnx.ModelProto) -> Generator[Outputs]:
        """Yields the model's outputs for each sample; a worker runs some samples at a time, and opens a session."""
        if not self._workers.are_others:
            session = self._open(model, COMPILED)
            for sample in self._given:
                yield self._run(session, sample, COMPILED)
            return
        share = self._workers.share
        if not self._feeds:
            self._feeds = [{name: share(array) for name, array in sample.feed.items()} for sample in self._given]
        serialized = share(np.frombuffer(model.SerializeToString(), np.uint8))
        parts = [Runs(serialized, self._names, self._feeds[at : at + PART]) for at in range(0, len(self._feeds), PART)]
        for outputs in self._workers.map(run_part, parts, ahead=1):
            yield from outputs

    def _time(self, model: onnx.ModelProto, runs: int) -> tuple[float, float]:
        """Returns the median milliseconds of the original and the model, run in turn on the first samples.

        Those of a stream are run forwards and backwards, so that each follows one that it is like.
        """
        original = open_session(self._model, self._threads, ORIGINAL)
        compiled = open_session(model, self._threads, COMPILED)
        samples = list(islice(self._given, runs + 1 if self._in_order else runs))
        order = [*samples, *samples[-2:0:-1]] if self._in_order else samples
        turns = Turns(
            {
                ORIGINAL: runner(original, self._names, ORIGINAL),
                COMPILED: runner(compiled, self._names, COMPILED),
            }
        )
        give_back_freed()  # what it took to open the sessions, several times a model's weights
        with on_one_processor(self._threads):
            turns.round(samples[0].feed)
            turns.forget_times()
            for sample in islice(cycle(order), 1 if self._in_order else 0, runs + 1 if self._in_order else runs):
                turns.round(sample.feed)
        return turns.median_ms(ORIGINAL), turns.median_ms(COMPILED)

    def _open(self, model: onnx.ModelProto, label: str, keeps_memory: bool = True) -> onnxruntime.InferenceSession:
        return open_session(model, processors(), label, keeps_memory=keeps_memory)

    def _run(self, session: onnxruntime.InferenceSession, sample: Sample, label: str) -> Outputs:
        return dict(zip(self._names, run_session(session, self._names, sample.feed, label), strict=True))

    def _originals(self, session: onnxruntime.InferenceSession | None = None) -> Iterator[tuple[Sample, Outputs]]:
        """Yields the samples with the outputs to be kept; without a `session` one is opened for those not held."""
        for index, sample in enumerate(self._samples):
            if index < len(self._held):
                yield sample, self._held[index]
                continue
            session = session or self._open(self._reference, ORIGINAL)
            outputs = self._run(session, sample, ORIGINAL)
            size = sum(array.nbytes for array in outputs.values())
            if index == len(self._held) and size * len(self._samples) <= HELD_BYTES:
                # An output lies in memory of its session, all of which stays as long as the output does.
                self._held.append({name: array.copy() for name, array in outputs.items()})
            yield sample, outputs


def _add(differences: dict[str, Difference], expected: Outputs, actual: Outputs) -> None:
    """Adds floating point outputs of one run; one whose shape depends on the values is left out."""
    for name, array in expected.items():
        if array.dtype.kind == "f" and array.shape == actual[name].shape:
            differences[name].add(array, actual[name])
