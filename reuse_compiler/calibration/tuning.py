"""The end of an extensive calibration: static layers learn from the original model, where PyTorch is there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from reuse_compiler import training
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.samples import Samples
from reuse_compiler.errors import LibraryError
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.processors import processors
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reuse.plan import Plan
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.sessions import ORIGINAL, open_session, run_session

logger = logging.getLogger(__name__)

STEP_PRODUCTS = 2e10
"""Multiply-adds of the dense layers in one step of tuning, at most, if one run does not have more: small samples are
put together, as steps on few of them are mostly noise."""
HELD_BYTES = 512 * 2**20
"""Samples that are kept in memory for tuning, at most."""


@dataclass(frozen=True)
class Tuned:
    """What tuning made of a plan; without one, nothing."""

    plan: Plan | None
    words: str
    """What was done, or why nothing was, as a sentence's end."""


def tune_static_layers(
    work: Workpiece, plan: Plan, samples: Samples, steps: int, seed: int, progress: ProgressCallback
) -> Tuned:
    """Tunes weights and centroids of the plan's static layers on the samples; nothing that fails there is raised."""
    names = [name for name, layer in plan.items() if layer.settings.scope == "static"]
    wanted = f"centroids and weights of {len(names)} layers ({', '.join(names)}) in {steps} steps"
    if any(layer.spec.is_quantised for layer in plan.values()):
        return Tuned(None, "not tried: layers of bytes are not tuned")
    if not names:
        return Tuned(None, "not tried: only static layers are tuned, and none was chosen")
    try:
        layers = [layer for layer in work.layers if layer.name in plan]
        model = with_own_weights(work.model, layers)
        batches = batches_of(model, _feeds(samples), work)
        expected = run_session(open_session(model, processors(), ORIGINAL), None, batches[0], ORIGINAL)
        tuned, report = training.tune_plan(
            model,
            plan,
            {layer.name: layer.linear_output for layer in layers},
            [next(iter(batch.values())) for batch in batches],
            expected,
            steps,
            seed,
            progress,
        )
    except LibraryError as error:
        logger.warning("the %s would have been tuned: %s", wanted, error)
        return Tuned(None, f"not tried: {error} (then it tunes the {wanted})")
    except Exception as error:  # of PyTorch, for a graph that it does not run; the calibration is not lost with it
        logger.warning("the %s could not be tuned: %s", wanted, error)
        return Tuned(None, f"not possible: {error}")
    loss = f"loss {report.loss_as_is:.3g} before and {report.loss_tuned:.3g} after, on runs held back"
    if report.kept != "tuned":
        return Tuned(None, f"{wanted}: no better ({loss})")
    return Tuned(tuned, f"{wanted}: {loss}")


def with_own_weights(model: onnx.ModelProto, layers: Sequence[ConvLayer]) -> onnx.ModelProto:
    """Returns the model with the layers' normalizations folded in: each Conv has its own initializers.

    The tensor `linear_output` is what the Conv computes then.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    producers = {name: node for node in result.graph.node for name in node.output}
    for index, layer in enumerate(layers):
        node = producers[layer.proto.output[0]]
        own = [f"{layer.linear_output}/tuning/{index}/{what}" for what in ("weight", "bias")]
        for name, array in zip(own, (layer.weight.array, layer.biases), strict=True):
            result.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        node.input[:] = [node.input[0], *own]
        if layer.normalization is not None:
            result.graph.node.remove(producers[layer.linear_output])
            node.output[0] = layer.linear_output
    return result


def batches_of(model: onnx.ModelProto, feeds: Sequence[Feed], work: Workpiece) -> list[Feed]:
    """Returns the runs, several at a time where the model lets the batch free and they are small."""
    if any(len(feed) != 1 for feed in feeds):
        return list(feeds)
    free = all(not value.type.tensor_type.shape.dim[0].HasField("dim_value") for value in model.graph.input[:1])
    products = sum(layer.spec.multiply_adds for layer in work.layers)
    # Two batches judge, and some more are to learn from.
    together = min(int(STEP_PRODUCTS // max(products, 1)), len(feeds) // 4) if free else 1
    together = max(together, 1)
    return [
        {name: _joined([feed[name] for feed in feeds[start : start + together]]) for name in feeds[0]}
        for start in range(0, len(feeds) - together + 1, together)
    ]


def _joined(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.concatenate(arrays)


def _feeds(samples: Samples) -> list[Feed]:
    size = max(1, sum(array.nbytes for array in samples[0].feed.values()))
    return [samples[index].feed for index in range(min(len(samples), HELD_BYTES // size + 1))]
