"""Metrics of a model's outputs, most of them beside the original's, summed up run by run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.labels import Labels
from reuse_compiler.calibration.outputs import Outputs
from reuse_compiler.calibration.report import Flips
from reuse_compiler.calibration.user_code import USER_ERRORS, describe_exception, load_function
from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.verification.compare import psnr

PYTHON = "python:"
SMALLEST_PROBABILITY = 1e-12
"""Of `kl`: what stands for a probability of 0, so that the divergence stays finite."""


class Accumulator(ABC):
    """Sums a metric up over runs."""

    @abstractmethod
    def add(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> None:
        """Adds a run: the original's outputs, those to judge, the labels of the rows."""

    @abstractmethod
    def value(self) -> float:
        """Returns the metric over all that was added."""

    def flips(self) -> Flips | None:
        """Returns what has become of single rows, if the metric counts right ones."""
        return None


class Metric(ABC):
    """A measure of how good outputs are, by themselves (labels) or beside the original's."""

    name: str
    higher_is_better: ClassVar[bool] = True
    perfect: ClassVar[float | None] = None
    """The value of a model against itself, and the best there is; None where that depends on the model."""
    best: ClassVar[float] = math.inf
    """No model's value is better."""
    needs_labels: ClassVar[bool] = False

    @abstractmethod
    def start(self) -> Accumulator:
        """Begins a new measurement."""

    def drop(self, original: float, value: float) -> float:
        """Returns how much worse than `original` a value is: negative where it is better, infinite for NaN."""
        if original == value:
            return 0.0  # also where both are infinite
        drop = original - value if self.higher_is_better else value - original
        return math.inf if math.isnan(drop) else drop


class _Mean(Accumulator):
    """A weighted mean over an output's rows or elements."""

    def __init__(self, measure: Callable[[Outputs, Outputs, Labels | None], tuple[float, float]]) -> None:
        """`measure` returns the sum over a run and its weight."""
        self._measure = measure
        self._sum = self._weight = 0.0

    def add(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> None:
        total, weight = self._measure(expected, actual, labels)
        self._sum += total
        self._weight += weight

    def value(self) -> float:
        return self._sum / self._weight if self._weight else math.nan


class Top1(Metric):
    """Share of the rows whose largest output is that of their label."""

    best = 1.0
    needs_labels = True

    def __init__(self, output: str) -> None:
        self.name, self._output = "top1", output

    def start(self) -> Accumulator:
        return _RightRows(self._right)

    def _right(self, outputs: Outputs, labels: Labels | None) -> NDArray[np.bool_]:
        scores = outputs[self._output]
        scores = scores.reshape(len(scores), -1)
        if labels is None or len(labels) != len(scores):
            given = "none" if labels is None else len(labels)
            raise DataError(f"the output '{self._output}' has {len(scores)} rows, but there are {given} labels for it")
        if labels.min() < 0 or labels.max() >= scores.shape[1]:
            raise DataError(
                f"labels from {labels.min()} to {labels.max()} do not fit the {scores.shape[1]} classes of the output "
                f"'{self._output}': they must be 0 to {scores.shape[1] - 1}"
            )
        right: NDArray[np.bool_] = _classes(scores) == labels
        return right


class _Rows(Accumulator):
    """Counts the rows that a model gets right, beside the original."""

    def __init__(self) -> None:
        self._rows = self._kept = self._lost = self._gained = 0

    def count(self, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> None:
        """Adds rows: whether the original, and the model, get them right."""
        self._rows += after.size
        self._kept += int(np.count_nonzero(before & after))
        self._lost += int(np.count_nonzero(before & ~after))
        self._gained += int(np.count_nonzero(~before & after))

    def value(self) -> float:
        return (self._kept + self._gained) / self._rows if self._rows else math.nan

    def flips(self) -> Flips | None:
        return Flips(rows=self._rows, lost=self._lost, gained=self._gained) if self._rows else None


class _RightRows(_Rows):
    """Judges rows by their labels."""

    def __init__(self, right: Callable[[Outputs, Labels | None], NDArray[np.bool_]]) -> None:
        super().__init__()
        self._right = right

    def add(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> None:
        self.count(self._right(expected, labels), self._right(actual, labels))


class Agreement(Metric):
    """Share of the rows (pixels) whose largest output, along axis 1, is the same as the original's."""

    perfect = best = 1.0

    def __init__(self, output: str) -> None:
        self.name, self._output = "agreement", output

    def start(self) -> Accumulator:
        return _SameRows(self._output)


class _SameRows(_Rows):
    """Counts the rows whose class is the original's."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output, self._pixels = output, False

    def add(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> None:
        same = expected[self._output].argmax(axis=1) == _classes(actual[self._output])
        self._pixels |= same.size > len(same)
        self.count(np.ones_like(same), same)

    def flips(self) -> Flips | None:
        """Returns nothing of pixels: those of an image flip together, so that few images tell little."""
        return None if self._pixels else super().flips()


class IoU(Metric):
    """Intersection over union of the regions above a threshold, over all samples together; 1 if both have none."""

    perfect = best = 1.0

    def __init__(self, output: str, threshold: float, index: int | None) -> None:
        """`index` is a channel (axis 1) of the output; None: all of them."""
        self.name = f"iou:{threshold:g}" + ("" if index is None else f",{index}")
        self._output, self._threshold, self._index = output, threshold, index

    def start(self) -> Accumulator:
        return _IoUSum(self._regions)

    def _regions(self, outputs: Outputs) -> NDArray[np.bool_]:
        values = outputs[self._output]
        if self._index is not None:
            if values.ndim < 2 or self._index >= values.shape[1]:
                raise ConfigError(
                    f"the metric {self.name} finds no such channel in the output '{self._output}' {list(values.shape)}"
                )
            values = values[:, self._index]
        regions: NDArray[np.bool_] = values > self._threshold
        return regions


class _IoUSum(Accumulator):
    def __init__(self, regions: Callable[[Outputs], NDArray[np.bool_]]) -> None:
        self._regions = regions
        self._intersection = self._union = 0

    def add(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> None:
        wanted, found = self._regions(expected), self._regions(actual)
        self._intersection += int(np.count_nonzero(wanted & found))
        self._union += int(np.count_nonzero(wanted | found))

    def value(self) -> float:
        return self._intersection / self._union if self._union else 1.0


class Kl(Metric):
    """Mean Kullback-Leibler divergence of the class probabilities (axis 1) from the original's, in nats.

    Outputs that are no probabilities yet go through a softmax.
    """

    higher_is_better = False
    perfect = best = 0.0

    def __init__(self, output: str) -> None:
        self.name, self._output = "kl", output

    def start(self) -> Accumulator:
        return _Mean(self._measure)

    def _measure(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> tuple[float, float]:
        wanted, found = (outputs[self._output].astype(np.float64) for outputs in (expected, actual))
        if not (wanted.min() >= 0 and np.allclose(wanted.sum(axis=1), 1.0, atol=1e-3)):
            wanted, found = _softmax(wanted), _softmax(found)
        wanted, found = (np.maximum(p, SMALLEST_PROBABILITY) for p in (wanted, found))
        return float((wanted * np.log(wanted / found)).sum()), wanted.size / wanted.shape[1]


class _ElementMetric(Metric):
    """A metric of all elements of an output; of several outputs, the worst one's value counts."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self.name, self._outputs = type(self).__name__.lower(), list(outputs)

    def start(self) -> Accumulator:
        return _WorstOutput(self, self._outputs)

    @abstractmethod
    def evaluate(self, sums: ElementSums) -> float:
        """Returns the metric of one output."""


class ElementSums:
    """Sums over the elements of an output that are finite in the original."""

    def __init__(self) -> None:
        self.count = 0
        self.squared_error = self.squared_expected = self.squared_actual = self.product = 0.0
        self.smallest, self.largest = math.inf, -math.inf

    def add(self, expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Adds one run of both models; NaN and infinity in `actual` only make the sums so."""
        if expected.shape != actual.shape:
            raise DataError(
                f"an output of shape {list(expected.shape)} has shape {list(actual.shape)} after the rewriting, so its "
                "elements cannot be compared; give a metric of the form python:module:function"
            )
        wanted, found = (array.astype(np.float64).reshape(-1) for array in (expected, actual))
        defined = np.isfinite(wanted)
        wanted, found = wanted[defined], found[defined]
        if not wanted.size:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            error = found - wanted
            self.squared_error += float(error @ error)
            self.squared_actual += float(found @ found)
            self.product += float(wanted @ found)
        self.squared_expected += float(wanted @ wanted)
        self.count += wanted.size
        self.smallest, self.largest = min(self.smallest, float(wanted.min())), max(self.largest, float(wanted.max()))


class _WorstOutput(Accumulator):
    def __init__(self, metric: _ElementMetric, outputs: Sequence[str]) -> None:
        self._metric = metric
        self._sums = {output: ElementSums() for output in outputs}

    def add(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> None:
        for output, sums in self._sums.items():
            sums.add(expected[output], actual[output])

    def value(self) -> float:
        values = [self._metric.evaluate(sums) for sums in self._sums.values()]
        if any(math.isnan(value) for value in values):
            return math.nan
        return min(values) if self._metric.higher_is_better else max(values)


class Psnr(_ElementMetric):
    """Peak signal-to-noise ratio in dB; the peak is the range of the original's values, or 1 if they lie in 0..1."""

    perfect = math.inf

    def evaluate(self, sums: ElementSums) -> float:
        return psnr(sums.squared_error, sums.count, sums.smallest, sums.largest)


class Cosine(_ElementMetric):
    """Cosine of the angle between an output's elements, over all samples, and the original's."""

    perfect = best = 1.0

    def evaluate(self, sums: ElementSums) -> float:
        if sums.squared_error == 0.0:
            return 1.0
        norms = math.sqrt(sums.squared_expected) * math.sqrt(sums.squared_actual)
        return sums.product / norms if norms else 0.0


class Mse(_ElementMetric):
    """Mean squared error against the original's outputs."""

    higher_is_better = False
    perfect = best = 0.0

    def evaluate(self, sums: ElementSums) -> float:
        return sums.squared_error / sums.count if sums.count else 0.0


class Python(Metric):
    """The user's function `(expected, actual, labels) -> float` of one run, higher is better; mean by rows."""

    def __init__(self, name: str) -> None:
        """`name` is `module:function` or `file.py:function`; raises ConfigError if there is none."""
        self.name, self._function = f"{PYTHON}{name}", load_function(name)

    def start(self) -> Accumulator:
        return _Mean(self._measure)

    def _measure(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> tuple[float, float]:
        rows = _count_rows(expected)
        try:
            value = float(self._function(expected, actual, labels))
        except USER_ERRORS as error:
            raise ConfigError(f"the metric {self.name} raises {describe_exception(error)}") from error
        return value * rows, rows


def _classes(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Index of the largest element along axis 1; -1, which is no class, where one of them is NaN."""
    classes: NDArray[np.int64] = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
    return classes


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinite scores become NaN
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _count_rows(outputs: Outputs) -> int:
    return next((len(array) for array in outputs.values() if array.ndim), 1)
