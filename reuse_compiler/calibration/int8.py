"""What onnxruntime's own int8 gives on the same samples: `--compare-int8`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import onnx

from reuse_compiler.calibration.samples import Samples
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.quantised import Quantised, fastest_quantised

RUNS = 64
"""Runs of the samples that the quantisation looks at, at most."""


def quantise_on(
    model: onnx.ModelProto, samples: Samples, threads: int, progress: ProgressCallback = silent
) -> Quantised[Callable[[], object]]:
    """Returns the fastest form that onnxruntime's static quantisation has of the model, calibrated on all samples."""
    first = samples.first_feed
    return fastest_quantised(model, _Feeds(samples), lambda opened: partial(opened.run, None, first), threads, progress)


def spread(samples: Samples) -> Samples:
    """Returns at most RUNS of the samples, evenly spread over them."""
    count = min(len(samples), RUNS)
    return samples.subset(np.linspace(0, len(samples) - 1, count).round().astype(int).tolist())


class _Feeds(Iterable[Feed]):
    """The inputs of samples, each read when its turn comes, as often as they are gone through."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[Feed]:
        return (sample.feed for sample in self._samples)
