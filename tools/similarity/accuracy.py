"""Accuracy of a classifier: against labels, or against the class that the original network finds."""

from __future__ import annotations

import numpy as np
import onnx

from reuse_compiler.calibration.labels import Labels
from reuse_compiler.errors import DataError
from tools.similarity.split_network import Outputs


def class_output(model: onnx.ModelProto, shapes: dict[str, tuple[int | None, ...]]) -> str | None:
    """Returns the model's only output of the form [N, classes], or None if it has none or several."""
    names = [value.name for value in model.graph.output]
    found = [name for name in names if len(shapes.get(name, ())) == 2 and shapes[name][1] not in (0, 1)]
    return found[0] if len(found) == 1 else None


class Accuracy:
    """Counts the samples that are classified as they should be."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._right = self._count = 0

    def add(self, expected: Outputs, actual: Outputs, labels: Labels | None) -> None:
        """Adds a batch; without labels the original's outputs `expected` tell the classes."""
        classes = expected[self._output].argmax(axis=1) if labels is None else labels
        found = actual[self._output].argmax(axis=1)
        if len(classes) != len(found):
            raise DataError(f"there are {len(classes)} labels for a batch of {len(found)} results")
        self._right += int(np.count_nonzero(found == classes))
        self._count += len(found)

    @property
    def value(self) -> float:
        return self._right / self._count
