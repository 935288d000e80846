"""Frames as a model sees them whose inputs are held, and what holding costs: both run them in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx

from reuse_compiler.processors import processors
from reuse_compiler.report import HoldReport
from reuse_compiler.reuse.config import HoldSettings
from reuse_compiler.runtime import statistics
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.data import Source
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.runnable import exposed
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, Measuring, open_session, run_session
from reuse_compiler.verification.verify import comparable_outputs

HOLDING = "the gate at the inputs"
HELD = "that are held"
"""What runs with held inputs are called."""


def held_feeds(alone: onnx.ModelProto, held: Mapping[str, str], feeds: Iterable[Feed]) -> Iterator[Feed]:
    """Yields the feeds of a stream with their inputs held, one frame after the other; only the first is as it was.

    `alone` and `held` are what `holds_alone` returns: a model of nothing but Holds, and its outputs by input.
    """
    session = open_session(alone, processors(), HOLDING)
    for feed in feeds:
        images = run_session(session, list(held.values()), {name: feed[name] for name in held}, HOLDING)
        yield {**feed, **dict(zip(held, images, strict=True))}


def measure_held(
    original: onnx.ModelProto,
    compiled: onnx.ModelProto,
    held: Mapping[str, str],
    settings: HoldSettings,
    source: Source | None,
    measuring: Measuring,
) -> HoldReport:
    """Runs the feeds of `source` once, in order; `held` has by input the tensor that holds it.

    Without a second frame nothing is measured. Raises VerificationError for a model that does not run.
    """
    report = HoldReport(inputs=list(held), **settings.model_dump())
    if source is None or len(source) < 2:
        return report
    tensors = list(held.values())
    with exposed(compiled, tensors):
        session = measuring.open(compiled, COMPILED)
    dense = measuring.open(original, ORIGINAL)
    names = [name for name, is_float in comparable_outputs(dense).items() if is_float]
    inputs, outputs = {name: Difference() for name in held}, {name: Difference() for name in names}
    for index, feed in enumerate(source):
        measuring.progress("running frames in order", index, len(source))
        expected = run_session(dense, names, feed, ORIGINAL)
        actual = run_session(session, [*names, *tensors], feed, COMPILED)
        for name, wanted, found in zip(names, expected, actual, strict=False):
            outputs[name].add(wanted, found)
        for name, found in zip(held, actual[len(names) :], strict=True):
            inputs[name].add(feed[name], found)
    measuring.progress("running frames in order", len(source), len(source))
    nodes = [node for node in statistics(session) if node.op == "Hold"]
    report.frames = len(source)
    report.changed = sum(node.changed for node in nodes) / max(1, sum(node.vectors for node in nodes))
    report.input_psnr = min(difference.psnr for difference in inputs.values())
    report.output_psnr = min((difference.psnr for difference in outputs.values()), default=None)
    return report
