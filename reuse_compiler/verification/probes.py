"""What runs of one model tell: the shapes of tensors that inference could not follow, and the remaining ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import onnx

from reuse_compiler.graph.names import Names
from reuse_compiler.runtime import remaining_ratios
from reuse_compiler.verification.data import Source
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.runnable import exposed
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, Measuring, open_session, run_session

MAX_FEEDS = 8
"""r_c varies little between batches of one kind of data, so that few tell enough."""


def measure_shapes(
    model: onnx.ModelProto, tensors: Sequence[str], feed: Feed, threads: int, folder: Path
) -> dict[str, tuple[int, ...]]:
    """Runs a model on `feed`; returns the shapes of these tensors of its main graph.

    `folder` may hold a temporary copy of a model with external data. Raises VerificationError if it does not run.
    """
    with _shape_nodes(model, tensors) as names, exposed(model, names):
        session = open_session(model, threads, ORIGINAL, folder=folder)
    shapes = run_session(session, names, feed, ORIGINAL)
    return {tensor: tuple(map(int, shape)) for tensor, shape in zip(tensors, shapes, strict=True)}


@contextmanager
def _shape_nodes(model: onnx.ModelProto, tensors: Sequence[str]) -> Iterator[list[str]]:
    """Adds nodes to `model` that compute the shapes of tensors while the context lasts; yields their outputs."""
    names, nodes = Names(model), model.graph.node
    before, outputs = len(nodes), [names.new_tensor(f"{tensor}/shape") for tensor in tensors]
    try:
        nodes.extend(
            onnx.helper.make_node("Shape", [tensor], [output]) for tensor, output in zip(tensors, outputs, strict=True)
        )
        yield outputs
    finally:
        del nodes[before:]


def measure_ratios(compiled: onnx.ModelProto, source: Source, measuring: Measuring) -> dict[str, float]:
    """Runs a compiled model on the first feeds of `source`; returns r_c by the node that clusters.

    Raises VerificationError if it does not run.
    """
    session = measuring.open(compiled, COMPILED)
    count = min(len(source), MAX_FEEDS)
    for index, feed in enumerate(islice(source, count)):
        measuring.progress("measuring remaining ratios", index, count)
        run_session(session, None, feed, COMPILED)
    measuring.progress("measuring remaining ratios", count, count)
    return remaining_ratios(session)
