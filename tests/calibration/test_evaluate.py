"""Scores of models whose distance from the original is known."""

import math

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from reuse_compiler.calibration import evaluate
from reuse_compiler.calibration.evaluate import Evaluator
from reuse_compiler.calibration.metrics import make_metric, model_outputs
from reuse_compiler.calibration.samples import Samples, from_reader
from reuse_compiler.verification.inputs import model_inputs
from reuse_compiler.verification.sessions import RunError
from tests.calibration.networks import BATCH, conv, feeds_of, network, samples_of, weight
from tests.comparison import relative_error
from tests.passes.models import model_of, run, tensor, value


def evaluator_of(model: onnx.ModelProto, metric: str, runs: int = 3) -> Evaluator:
    return Evaluator(
        model, samples_of(model, feeds_of(model, runs)), make_metric(metric, model_outputs(model), False), 1
    )


def changed(model: onnx.ModelProto, name: str = "w3", factor: float = 2.0) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = next(own for own in copy.graph.initializer if own.name == name)
    own.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(own) * np.float32(factor), name))
    return copy


@pytest.mark.parametrize(
    ("metric", "perfect"),
    [("agreement", 1.0), ("iou:0.1", 1.0), ("cosine", 1.0), ("mse", 0.0), ("kl", 0.0), ("psnr", math.inf)],
)
@pytest.mark.parametrize("held", [0, 10**9])
def test_the_original_is_as_good_as_itself(
    metric: str, perfect: float, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its outputs are kept or computed again."""
    monkeypatch.setattr(evaluate, "HELD_BYTES", held)
    model = network()
    evaluator = evaluator_of(model, metric)
    score = evaluator.score(model)
    assert evaluator.original == pytest.approx(perfect) and score.value == pytest.approx(perfect)
    assert score.drop == pytest.approx(0.0) and score.output_error == 0.0
    assert score.dense_ms > 0 and score.reuse_ms > 0
    again = evaluator.score(changed(model))
    assert again.drop > 0 or metric in ("agreement", "iou:0.1")
    assert again.output_error > 0.1
    assert evaluator.score(model).output_error == 0.0


def test_outputs_are_compared_with_the_references() -> None:
    """But for the error by which a layer is judged, which is that of what the layer itself changes."""
    model, reference = network(), changed(network())
    samples = samples_of(model, feeds_of(model, 3))
    metric = make_metric("cosine", model_outputs(model), False)
    evaluator = Evaluator(model, samples, metric, 1, reference=reference)
    assert evaluator.original == pytest.approx(1.0)
    same, own = evaluator.score(reference), evaluator.score(model)
    assert same.value == pytest.approx(1.0) and same.output_error == 0.0
    assert own.drop > 1e-4 and own.output_error > 0.1
    assert own.drop == pytest.approx(evaluator.original - own.value)
    assert evaluator.output_error(model, 2) == 0.0
    assert evaluator.output_error(reference, 2) == pytest.approx(
        Evaluator(model, samples, metric, 1).output_error(reference, 2)
    )


def test_what_is_held_keeps_no_memory_of_a_session() -> None:
    """An output of onnxruntime lies in its session's memory: hundreds of megabytes for an image of a page."""
    evaluator = evaluator_of(network(), "cosine")
    held = [array for outputs in evaluator._held for array in outputs.values()]
    assert len(held) == 3 and all(array.flags.owndata for array in held)


def test_errors_are_over_the_first_runs() -> None:
    model = network()
    feeds = feeds_of(model, 3)
    evaluator = evaluator_of(model, "cosine")
    for runs in (1, 2, 3, 9):
        actual = np.stack([run(changed(model), feed)[0] for feed in feeds[:runs]])
        expected = np.stack([run(model, feed)[0] for feed in feeds[:runs]])
        error = evaluator.output_error(changed(model), runs)
        assert error == pytest.approx(relative_error(actual, expected), rel=1e-4)


def test_the_worst_output_counts_and_integers_do_not() -> None:
    nodes = [
        conv("x", "w", "c", "conv"),
        helper.make_node("Mul", ["c", "k"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["i"], axis=1),
    ]
    outputs = [value("c", None), value("y", None), value("i", None, onnx.TensorProto.INT64)]
    constants = [weight("w", 6, 4, 3, 3), tensor("k", np.float32(1.0))]
    model = model_of(nodes, [value("x", ["N", 4, 8, 8])], outputs, constants)
    evaluator = evaluator_of(model, "cosine")
    assert evaluator.score(changed(model, "k", -3.0)).output_error == pytest.approx(4.0, rel=1e-5)


def classifier(runs: int) -> tuple[onnx.ModelProto, Samples]:
    """A model with classes, and samples of which it gets all right but the first."""
    model = network()
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["y"], ["g"]))
    model.graph.node.append(helper.make_node("Flatten", ["g"], ["logits"]))
    del model.graph.output[:]
    model.graph.output.append(value("logits", ["N", 6]))
    feeds = feeds_of(model, runs)
    labels = np.concatenate([run(model, feed)[0].argmax(axis=1) for feed in feeds])
    labels[0] = (labels[0] + 1) % 6
    return model, from_reader(feeds, model_inputs(model), labels)


def upside_down(model: onnx.ModelProto) -> onnx.ModelProto:
    return changed(changed(model, "w3", -1.0), "b3", -1.0)


def test_labels_decide_where_there_are_some() -> None:
    model, samples = classifier(4)
    evaluator = Evaluator(model, samples, make_metric("top1", model_outputs(model), True), 1)
    assert evaluator.original == pytest.approx(7 / 8)
    right = [run(upside_down(model), sample.feed)[0].argmax(axis=1) == sample.labels for sample in samples]
    expected = np.concatenate(right)
    score = evaluator.score(upside_down(model))
    assert score.value == pytest.approx(expected.mean()) and score.drop == pytest.approx(7 / 8 - expected.mean())


def test_what_cannot_come_up_to_the_budget_is_not_run_to_the_end() -> None:
    model, samples = classifier(4)
    evaluator = Evaluator(model, samples, make_metric("top1", model_outputs(model), True), 1)
    score = evaluator.score(upside_down(model), is_hopeless=lambda flips: flips.rows >= 2 * BATCH)
    assert score.stopped_after == 2 and score.flips is not None and score.flips.rows == 2 * BATCH
    assert score.value == pytest.approx(evaluator.original - (score.flips.lost - score.flips.gained) / (2 * BATCH))
    assert score.drop == pytest.approx(evaluator.original - score.value)
    whole = evaluator.score(upside_down(model), is_hopeless=lambda flips: False)
    assert whole.stopped_after is None and whole.flips is not None and whole.flips.rows == 4 * BATCH


def test_a_model_that_does_not_run() -> None:
    model = network()
    broken = changed(model)
    broken.graph.node[0].op_type = "Unheard"
    with pytest.raises(RunError, match="compiled model"):
        evaluator_of(model, "cosine").score(broken)


def test_outputs_that_break_are_infinitely_wrong() -> None:
    model = network()
    score = evaluator_of(model, "cosine").score(changed(model, "w3", float("nan")))
    assert score.output_error == math.inf and not score.value >= 0.5
