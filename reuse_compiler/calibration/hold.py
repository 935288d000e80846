"""Samples of a stream as a model sees them whose inputs are held, and the tolerances that are tried."""

from __future__ import annotations

from itertools import chain, islice

import onnx

from reuse_compiler.calibration.samples import Samples, Split
from reuse_compiler.passes.hold_inputs import holds_alone
from reuse_compiler.reuse.config import HoldSettings
from reuse_compiler.verification.data import Shapes
from reuse_compiler.verification.held import HELD, held_feeds
from reuse_compiler.verification.inputs import model_inputs
from reuse_compiler.verification.spooled import SpooledSource

STEPS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
"""The tolerances, in 255ths of the range of the inputs' values: steps of a byte where they are pixels."""


def held_inputs(model: onnx.ModelProto, shapes: Shapes) -> list[str]:
    """Returns the inputs that can be held: images. Raises ConfigError where there are none."""
    return list(holds_alone(model, HoldSettings(tolerances=(0.0,)), shapes)[1])


def tolerances(samples: Samples, inputs: list[str]) -> list[float]:
    """Returns what is tried, the least first."""
    ends = [(feed[name].min(), feed[name].max()) for feed, _ in samples for name in inputs]
    span = float(max(high for _, high in ends)) - float(min(low for low, _ in ends))
    return [step / 255 * span for step in STEPS]


def hold_samples(parts: Split, model: onnx.ModelProto, settings: HoldSettings, shapes: Shapes) -> Split:
    """Returns the parts of a stream with their inputs held, one frame after the other; only the first is as it was."""
    stream = held_feeds(*holds_alone(model, settings, shapes), (feed for feed, _ in chain.from_iterable(parts)))
    specs = model_inputs(model)
    return Split(*(part.with_source(SpooledSource(islice(stream, len(part)), specs, HELD)) for part in parts))
