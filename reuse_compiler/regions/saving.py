"""What a segment's form with reuse saves, as a function of how much the inputs of its layers repeat.

The time of a reuse convolution grows linearly with the share of its vectors that are distinct. Both ends of the line
are known from the cost model; better, they are measured on this machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from reuse_compiler.errors import DataError, ModelError
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.passes.keep_pixel_major import keep_pixel_major
from reuse_compiler.passes.layer import Prepared
from reuse_compiler.passes.lower_to_reuse import Rewritten
from reuse_compiler.regions.segments import Flow, Segment
from reuse_compiler.reuse.cost import predicted_cost
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.plan import LayerPlan, Plan
from reuse_compiler.runtime import remaining_ratios, reset_statistics
from reuse_compiler.verification.data import RandomSource
from reuse_compiler.verification.inputs import Feed, model_inputs
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, Measuring, RunError, run_session
from reuse_compiler.verification.timing import Turns

logger = logging.getLogger(__name__)

LEAST_SAVING = 0.1
"""Of the dense time, that a segment saves at least where everything repeats; for less it does not get two forms."""
LARGEST_SAVING = 0.95
"""Of the dense time, that can be saved: a line drawn further than that was measured beside something else."""
LARGEST_HEAD_START = -0.9
"""Of losses, beside ConvInteger, which takes 16 times as long as QLinearConv."""
ROUNDS, MOST_ROUNDS, SECONDS = 5, 25, 0.5
"""Timed rounds: so many, and more within the seconds."""


@dataclass(frozen=True)
class Saving:
    """The expected saving: the sum over layers of `gains` times the share of repeated vectors, less `loss`.

    The unit is the time of the segment's original nodes.
    """

    gains: Mapping[str, float]
    loss: float
    """What the form with reuse takes longer where nothing repeats; negative if it is faster even there."""
    measured: bool

    @property
    def most(self) -> float:
        """The saving where everything repeats."""
        return sum(self.gains.values()) - self.loss

    def needed(self, margin: float) -> float:
        """Returns the share of repeated vectors, alike in all layers, from which on more than a margin is saved."""
        return max(0.0, (self.loss + margin) / sum(self.gains.values()))


def expected_saving(prepared: Prepared, segment: Segment, plan: Plan) -> Saving:
    """Returns the saving by the cost model."""
    layers = {name: prepared.convolutions[name] for name in segment.windows if name in plan}
    inside = (layer for layer in prepared.convolutions.values() if layer.in_main)
    dense = sum(layer.spec.multiply_adds for layer in inside if layer.ref.index in segment.nodes)
    gains, loss = {}, 0.0
    for name, layer in layers.items():
        least, most = (_cost(plan[name], distinct) for distinct in (0.0, 1.0))
        share = layer.spec.multiply_adds / dense
        gains[name] = share * (most - least)
        loss += share * (most - 1.0)
    return Saving(gains, loss, measured=False)


def _cost(plan: LayerPlan, distinct: float) -> float:
    """Returns the predicted cost if that share of a block's vectors is distinct."""
    blocking, settings = plan.settings.blocking(plan.spec), plan.settings
    ratio = distinct * blocking.vectors / plan.spec.rows
    family = FAMILIES[settings.family]
    return predicted_cost(blocking, family, settings.num_hashes, ratio, table=settings.table).total


def measured_saving(
    prepared: Prepared, rewritten: Rewritten, segment: Segment, flow: Flow, plan: Plan, measuring: Measuring
) -> Saving | None:
    """Returns the saving as it is on this machine: the segment's two forms are run on inputs that repeat and do not.

    None: the segment has inputs of which size or type are not known, or repetitions made nothing faster.
    """
    names, outputs = flow.inputs(segment.start, segment.stop), flow.outputs(segment.start, segment.stop)
    try:
        parts = [cut_model(model, names, outputs) for model in (prepared.model, rewritten.model)]
        feeds = [_feed(parts[0], prepared, repeating) for repeating in (False, True)]
        dense = measuring.open(parts[0], ORIGINAL)
        reuse = measuring.open(keep_pixel_major(parts[1])[0], COMPILED)
        runs = {
            "dense": lambda: run_session(dense, None, feeds[0], ORIGINAL),
            "distinct": lambda: run_session(reuse, None, feeds[0], COMPILED),
            "repeated": lambda: run_session(reuse, None, feeds[1], COMPILED),
        }
        distinct = {}
        for name, feed in (("distinct", feeds[0]), ("repeated", feeds[1])):
            reset_statistics(reuse)
            run_session(reuse, None, feed, COMPILED)
            distinct[name] = _distinct(prepared, rewritten, remaining_ratios(reuse), segment, plan)
        times = _times(runs)
    except (DataError, ModelError, RunError, ValueError, KeyError) as error:
        logger.info("the nodes behind '%s' are weighed by the cost model: %s", segment.source, error)
        return None
    work = {name: prepared.convolutions[name].spec.multiply_adds for name in distinct["distinct"]}
    # Noise repeats nowhere, and runs sample whether their input does. That some of its vectors are equal, as those of
    # bytes are behind a layer or two, is no reason to expect that it could take longer.
    shares = {name: distinct["repeated"][name] / distinct["distinct"][name] for name in work}
    difference = sum(work[name] * (1.0 - shares[name]) for name in work)
    slope = (times["distinct"] - times["repeated"]) / difference if difference > 0 else 0.0
    if slope <= 0:
        return None
    gains = {name: slope * work[name] for name in work}
    dense_time = times["dense"]
    # Whoever computes all vectors gains nothing by looking for equal ones, whatever disturbed the clock; but some
    # operators of the original are slower than ours.
    is_slow = any(prepared.convolutions[name].spec.bytes_by != "QLinearConv" for name in work)
    loss = max(LARGEST_HEAD_START if is_slow else 0.0, times["distinct"] / dense_time - 1.0)
    most = min(sum(gains.values()) / dense_time, loss + LARGEST_SAVING)
    return Saving({name: most * gain / sum(gains.values()) for name, gain in gains.items()}, loss, measured=True)


def _times(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Returns the shortest time of each: what disturbs a run only makes it longer."""
    turns: Turns[object] = Turns(runs)
    turns.round()
    turns.forget_times()
    for index in range(MOST_ROUNDS):
        if index >= ROUNDS and 1e-3 * sum(map(sum, turns.samples.values())) > SECONDS:
            break
        turns.round()
    return {name: min(samples) for name, samples in turns.samples.items()}


def _distinct(
    prepared: Prepared, rewritten: Rewritten, ratios: Mapping[str, float], segment: Segment, plan: Plan
) -> dict[str, float]:
    """Returns the share of distinct vectors by layer of the segment, from r_c by node."""
    shares = {}
    for name in segment.windows:
        if name in plan:
            blocking = plan[name].settings.blocking(plan[name].spec)
            shares[name] = ratios[rewritten.clustering[name]] * blocking.spec.rows / blocking.vectors
    return shares


def _feed(part: onnx.ModelProto, prepared: Prepared, repeating: bool) -> Feed:
    """Returns random inputs of a part of the model, which may repeat.

    Raises DataError if one is no tensor of floats of a known size.
    """
    shapes = {}
    for spec in model_inputs(part):
        shape = prepared.shapes[spec.name]
        if spec.dtype != np.float32 or None in shape:
            raise DataError(f"'{spec.name}' is no tensor of floats of a known size")
        shapes[spec.name] = tuple(size or 0 for size in shape)
    return RandomSource(model_inputs(part), shapes, seed=0, repeating=repeating)[0]
