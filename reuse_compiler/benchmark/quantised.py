"""What of a quantised layer's time its convolution takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.benchmark.layer import INPUT
from reuse_compiler.benchmark.profile import profile
from reuse_compiler.verification.quantised import Quantised
from reuse_compiler.verification.sessions import BoundRun, open_session

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose")


def convolution_ms(quantised: Quantised[BoundRun], x: NDArray[np.float32], threads: int, runs: int) -> float:
    """Returns the time of the nodes that compute, without those that convert from and to float."""
    nodes = profile(
        quantised.model,
        lambda prefix: open_session(quantised.model, threads, "the quantised layer", profile=prefix, plain=True),
        lambda opened: opened.run(None, {INPUT: x}),
        runs,
    )
    return sum(node.ms for node in nodes if node.op not in CONVERSIONS)
