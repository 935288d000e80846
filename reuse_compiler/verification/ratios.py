"""Measures the remaining ratio of every layer of a compiled model on data."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import onnx

from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.runtime import remaining_ratios
from reuse_compiler.verification.data import Source
from reuse_compiler.verification.sessions import COMPILED, open_session, run_session

MAX_FEEDS = 8
"""r_c varies little between batches of one kind of data, so that few tell enough."""


def measure_ratios(
    compiled: onnx.ModelProto, source: Source, threads: int, folder: Path, progress: ProgressCallback = silent
) -> dict[str, float]:
    """Runs a compiled model on the first feeds of `source`; returns r_c by the node that clusters.

    `folder` may hold temporary copies of a model with external data. Raises VerificationError if it does not run.
    """
    session = open_session(compiled, threads, COMPILED, folder=folder)
    count = min(len(source), MAX_FEEDS)
    for index, feed in enumerate(islice(source, count)):
        progress("measuring remaining ratios", index, count)
        run_session(session, None, feed, COMPILED)
    progress("measuring remaining ratios", count, count)
    return remaining_ratios(session)
