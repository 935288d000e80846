"""Tensors of a model, run after run: those of the model, each computed as often as memory asks for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.calibration import activations
from reuse_compiler.calibration.activations import Activations, one_by_one
from reuse_compiler.verification import verify
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.sessions import open_session
from reuse_compiler.verification.verify import LayerTensor
from tests.calibration.networks import conv, feeds_of, network, weight
from tests.passes.models import model_of, random_array, run, value


def two_inputs() -> onnx.ModelProto:
    nodes = [conv("x", "w", "c", "conv"), helper.make_node("Add", ["c", "z"], ["y"])]
    inputs = [value("x", ["N", 4, 8, 8]), value("z", ["N", 6, 6, 6])]
    return model_of(nodes, inputs, [value("y", None)], [weight("w", 6, 4, 3, 3)])


def expected(model: onnx.ModelProto, tensor: str, feed: Feed) -> Any:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return run(exposed, feed)[0]


def assert_same(
    found: Activations, tensors: Sequence[str], model: onnx.ModelProto, feeds: list[dict[str, Any]]
) -> None:
    runs = list(found)
    assert len(runs) == len(found) == len(feeds)
    for values, feed in zip(runs, feeds, strict=True):
        for tensor, array in zip(tensors, values, strict=True):
            np.testing.assert_array_equal(array, feed[tensor] if tensor in feed else expected(model, tensor, feed))


@pytest.mark.parametrize("tensors", [["c2"], ["x"], ["r1", "x", "r1", "c1"], ["y", "p"]])
@pytest.mark.parametrize("held", [0, 10**9])
def test_tensors_are_those_of_the_model_every_time(
    tensors: list[str], held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph input is one, too, and two layers may read the same."""
    monkeypatch.setattr(activations, "HELD_BYTES", held)
    model = network()
    feeds = feeds_of(model, 3)
    found = Activations(model, tensors, feeds, "the original model")
    next(iter(found))  # a pass that ends early
    assert_same(found, tensors, model, feeds)
    assert_same(found, tensors, model, feeds)


def test_tensors_are_held_only_if_all_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = feeds_of(network(), 3)
    size = feeds[0]["x"].nbytes
    for held, expected_runs in ((3 * size, 3), (3 * size - 1, 0)):
        monkeypatch.setattr(activations, "HELD_BYTES", held)
        found = Activations(network(), ["x"], feeds, "the original model")
        list(found)
        again = list(found)
        same = [first[0] is second[0] for first, second in zip(found, again, strict=True)]
        assert same.count(True) == expected_runs


def test_what_is_needed_once_is_not_held() -> None:
    model = network()
    feeds = feeds_of(model, 3)
    found = Activations(model, ["c2"], feeds, "the original model")
    first, second = list(found.once()), list(found.once())
    for (array,), (again,), feed in zip(first, second, feeds, strict=True):
        assert again is not array
        np.testing.assert_array_equal(array, expected(model, "c2", feed))
    assert found.as_start() is None


def test_inputs_that_a_tensor_does_not_need_are_not_fed() -> None:
    model = two_inputs()
    feeds: list[dict[str, Any]] = [
        {"x": random_array(1, 4, 8, 8, seed=i), "z": random_array(1, 6, 6, 6)} for i in range(2)
    ]
    assert_same(Activations(model, ["c"], feeds, "the original model"), ["c"], model, feeds)
    assert_same(Activations(model, ["y", "z"], feeds, "the original model"), ["y", "z"], model, feeds)


@pytest.mark.parametrize(("held", "sessions"), [(0, 4), (3 * 1000, 4), (10**9, 1)])
def test_tensors_come_one_by_one(held: int, sessions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that memory holds together are computed together, in all runs; two layers may read the same."""
    monkeypatch.setattr(verify, "LAYER_BYTES", held)
    opened = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal opened
        opened += 1
        return open_session(*arguments, **options)

    monkeypatch.setattr(activations, "open_session", counted)
    model = network()
    feeds = feeds_of(model, 3)
    tensors = ["c2", "x", "r1", "c2"]
    pieces = [LayerTensor(str(index), tensor, 1000) for index, tensor in enumerate(tensors)]
    found = list(one_by_one(model, pieces, feeds, "the original model"))
    assert opened == sessions
    for tensor, runs in zip(tensors, found, strict=True):
        assert_same(runs, [tensor], model, feeds)
        assert_same(runs, [tensor], model, feeds)
