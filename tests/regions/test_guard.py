"""Both forms of a model compute what the original does, whichever is taken, with our library and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from reuse_compiler.graph.structure import graphs_of, structure_errors
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.choose_parameters import choose_parameters, plan_of
from reuse_compiler.passes.layer import Prepared
from reuse_compiler.passes.lower_to_reuse import lower_to_reuse
from reuse_compiler.pipeline import find_layers
from reuse_compiler.regions.guard import Guards, Question, TwoForms, guard
from reuse_compiler.regions.segments import Segment
from reuse_compiler.regions.windows import Window
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.runtime import session, statistics
from reuse_compiler.verification.quantised import quantise
from tests.comparison import assert_close
from tests.passes.models import EXACT, Array
from tests.regions import models

NEVER, HALF, ALWAYS = 2.0, 0.3, -1.0
"""Thresholds of a test whose gains add up to 1."""


def question(source: str, threshold: float) -> Question:
    return Question(source, {"layer": Window(1, 1)}, {"layer": 1.0}, threshold)


def split(model: onnx.ModelProto, borders: list[str], stop: int | None = None) -> list[Segment]:
    """Returns segments that begin with the first node and those that compute the tensors `borders`."""
    nodes = list(model.graph.node)
    starts = [0, *(index for index, node in enumerate(nodes) if node.output[0] in borders)]
    ends = [*starts[1:], stop or len(nodes)]
    return [Segment(first, last, nodes[first].input[0], {}, 3, 0.0) for first, last in zip(starts, ends, strict=True)]


def guarded(
    model: onnx.ModelProto, segments: list[Segment], entry: float, own: list[float], stop: int | None = None
) -> onnx.ModelProto:
    prepared = find_layers(model)
    plan = plan_of(choose_parameters(prepared.layers, EXACT, None, Fitted(), {}))
    lowered = lower_to_reuse(prepared, plan, dense_inputs=True).model
    forms = [TwoForms(segment, question(segment.source, each)) for segment, each in zip(segments, own, strict=True)]
    result = guard(prepared, lowered, Guards([question("x", entry)], forms, stop or len(prepared.model.graph.node)))
    add_function_bodies(result)
    assert not structure_errors(result)
    return result


def open_model(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return session(model.SerializeToString())


def nodes_that_ran(opened: onnxruntime.InferenceSession) -> set[str]:
    return {node.node for node in statistics(opened) if node.runs and node.rows}


NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], list[str]]] = {
    "chain": (models.chain, ["three_c"]),
    "one segment": (models.chain, []),
    "skips": (models.skips, ["three_c", "up"]),
    "constants": (models.constants_among_the_nodes, []),
    "constants, two": (models.constants_among_the_nodes, ["halved"]),
    "a body": (models.with_a_body, ["two_c", "last_c"]),
    "two inputs": (models.two_inputs, ["masked"]),
    "old": (lambda: models.chain(opset=9, ir_version=3), ["three_c"]),
    "opset 13": (lambda: models.chain(opset=13), ["three_c"]),
}


@pytest.mark.parametrize(("entry", "inner"), [(NEVER, ALWAYS), (ALWAYS, NEVER), (ALWAYS, ALWAYS), (HALF, HALF)])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_computes_what_the_original_does(name: str, entry: float, inner: float) -> None:
    build, borders = NETWORKS[name]
    model = build()
    segments = split(model, borders)
    result = guarded(model, segments, entry, [inner] * len(segments))
    onnx.checker.check_model(result, full_check=True)
    original, ours = open_model(model), open_model(result)
    stock = onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
    mask = {"mask": np.ones((1, 1, models.SIZE, models.SIZE), np.float32)} if name == "two inputs" else {}
    for kind, x in models.images().items():
        expected: list[Array] = original.run(None, {"x": x, **mask})
        for opened in (ours, stock):
            for actual, wanted in zip(opened.run(None, {"x": x, **mask}), expected, strict=True):
                assert_close(actual, wanted, what=f"{name} on {kind}")
    layers = {layer.name for layer in find_layers(model).layers}
    if entry == NEVER or (inner == NEVER and len(segments) > 1):
        assert not nodes_that_ran(ours)
    else:
        assert nodes_that_ran(ours) == layers


@pytest.mark.parametrize("entry", [NEVER, ALWAYS, HALF])
def test_both_forms_of_a_quantised_model_have_its_bytes(entry: float) -> None:
    images = models.images()
    model = quantise(models.chain(), [{"x": x} for x in images.values()], "QDQ", "QUInt8")
    whole = Segment(0, len(model.graph.node), "x", {}, 3, 0.0)
    result = guarded(model, [whole], entry, [entry])
    original, ours = open_model(model), open_model(result)
    stock = onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
    for x in images.values():
        (expected,) = original.run(None, {"x": x})
        for opened in (ours, stock):
            np.testing.assert_array_equal(opened.run(None, {"x": x})[0], expected)
    layers = set() if entry == NEVER else {layer.name for layer in find_layers(model).layers}
    assert nodes_that_ran(ours) == layers


def test_each_segment_decides_for_itself() -> None:
    model = models.chain()
    segments = split(model, ["three_c"])
    opened = open_model(guarded(model, segments, ALWAYS, [NEVER, ALWAYS]))
    opened.run(None, {"x": models.images()["half"]})
    assert nodes_that_ran(opened) == {"three", "four"}


def test_a_run_takes_what_its_input_suits() -> None:
    model = models.chain()
    opened = open_model(guarded(model, split(model, []), HALF, [HALF]))
    opened.run(None, {"x": models.images()["random"]})
    assert not nodes_that_ran(opened)
    opened.run(None, {"x": models.images()["half"]})
    assert nodes_that_ran(opened) == {"one", "two", "three", "four"}


def test_nodes_behind_stay_outside_and_are_there_once() -> None:
    model = models.chain()
    segment = split(model, [], stop=4)
    result = guarded(model, segment, ALWAYS, [ALWAYS], stop=4)
    assert [node.op_type for node in result.graph.node][:2] == ["Redundancy", "If"]
    assert [node.name for node in result.graph.node][2:] == [node.name for node in model.graph.node][4:]
    x = models.images()["half"]
    assert_close(open_model(result).run(None, {"x": x})[0], open_model(model).run(None, {"x": x})[0])


def test_bodies_hold_their_own_weights_and_nothing_is_left_outside() -> None:
    model = models.chain()
    result = guarded(model, split(model, ["three_c"]), HALF, [HALF, HALF])
    assert not result.graph.initializer
    names = [name for graph in graphs_of(result.graph) for node in graph.node for name in node.output]
    assert len(names) == len(set(names))


def test_older_models_keep_constants_that_nobody_can_override() -> None:
    model = models.chain(opset=9, ir_version=3)
    result = guarded(model, split(model, [], stop=4), HALF, [HALF], stop=4)
    assert [value.name for value in result.graph.input] == ["x"]
    assert result.ir_version >= 4


def test_batches_are_sampled_together() -> None:
    net = models.Net(batch="N")
    net.conv(net.conv("x", "one"), "two")
    model = net.build("two")
    opened = open_model(guarded(model, split(model, []), 0.6, [0.6]))
    both = np.concatenate([models.images()["random"], models.images()["constant"]])
    opened.run(None, {"x": both})
    assert not nodes_that_ran(opened)  # half of the windows repeat
    opened.run(None, {"x": both[1:]})
    assert nodes_that_ran(opened) == {"one", "two"}


def test_the_prepared_model_is_not_changed() -> None:
    prepared: Prepared = find_layers(models.skips())
    before = prepared.model.SerializeToString()
    guarded(prepared.model, split(prepared.model, ["three_c"]), HALF, [HALF, HALF])
    assert prepared.model.SerializeToString() == before
    assert replace(prepared).model is prepared.model
    assert CompileOptions().guarded and not CompileOptions(family="sign").guarded
