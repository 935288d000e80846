"""Layers of scope static and session from configuration to model: inputs, attributes, sizes, and runs elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from reuse_compiler.errors import ConfigError
from reuse_compiler.graph.tensors import to_array
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import Lowered, lower
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig, make_settings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.reuse.plan import LayerPlan, LayerWeights
from reuse_compiler.reuse.static_tables import table_bytes
from tests.comparison import assert_close
from tests.passes.models import conv_model, model_of, random_array, tensor, value

STATIC = make_settings(family="sign", layout="channel", L=2, H=3, scope="static")
SESSION = make_settings(family="exact", layout="channel", L=4, H=1, scope="session", memory=1000)
CENTROIDS = random_array(2, 8, 2)
GIVEN = {"given", "centroids"}


def two_convolutions() -> onnx.ModelProto:
    """Input x -> conv1 (4 -> 4) -> conv2 (4 -> 6) -> y."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", pads=[1] * 4),
        helper.make_node("Conv", ["a", "w2", "b"], ["y"], "conv2"),
    ]
    constants = [
        tensor("w1", random_array(4, 4, 3, 3)),
        tensor("w2", random_array(6, 4, 3, 3)),
        tensor("b", random_array(6)),
    ]
    return model_of(nodes, [value("x", ["N", 4, "H", "W"])], [value("y", [None] * 4)], constants)


def compiled(
    model: onnx.ModelProto,
    layers: dict[str, LayerSettings],
    weights: dict[str, LayerWeights] | None = None,
    **options: Any,
) -> Lowered:
    centroids = {name: CENTROIDS for name, settings in layers.items() if settings.scope == "static"}
    fitted = Fitted(weights=weights or {}, centroids=centroids)
    return lower(model, CompileOptions(**options), ReuseConfig(layers=layers), fitted)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_centroids_are_the_last_input_of_static_layers_only(lowering: str, fallback: bool) -> None:
    layers = {"conv1": SESSION, "conv2": STATIC}
    graph = compiled(two_convolutions(), layers, lowering=lowering, fallback=fallback).model.graph
    session, static = [node for node in graph.node if node.op_type in ("ReuseConv", "Cluster")]
    constants = {each.name: to_array(each) for each in graph.initializer}
    assert len(static.input) == (9 if lowering == "fused" else 3)
    np.testing.assert_array_equal(constants[static.input[-1]], CENTROIDS)
    assert not any(np.array_equal(constants[name], CENTROIDS) for name in session.input if name in constants)
    if lowering == "fused" and not fallback:
        assert [constants[name].size for name in static.input[6:8]] == [0, 0]
        assert len(session.input) == 2
    own = attributes_of(session), attributes_of(static)
    assert [each["scope"] for each in own] == [b"session", b"static"]
    assert own[0]["memory"] == 1000 and "memory" not in own[1]
    assert not any("keep_tables" in each for each in own)


def test_a_memory_that_is_the_default_is_not_written() -> None:
    settings = SESSION.model_copy(update={"memory": 2**26})
    (node,) = [n for n in compiled(two_convolutions(), {"conv1": settings}).model.graph.node if n.op_type != "Conv"]
    assert "memory" not in attributes_of(node)


def run_alone(model: onnx.ModelProto, x: Any) -> Any:
    """Runs a model in onnxruntime without the operator library."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("others", [{}, {"conv1": SESSION}, {"conv1": STATIC}])
def test_static_layers_compute_the_original_without_the_library(lowering: str, others: dict[str, Any]) -> None:
    """Their weights may be fitted; then the original's are in the file, too."""
    model, x = two_convolutions(), random_array(2, 4, 6, 7)
    fitted = {"conv2": LayerWeights(random_array(6, 4, 3, 3, seed=1), random_array(6, seed=1))}
    result = compiled(model, {**others, "conv2": STATIC}, fitted, lowering=lowering).model
    onnx.checker.check_model(result)
    assert_close(run_alone(result, x), run_alone(model, x))


@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_a_compiled_model_may_be_compiled_again(lowering: str) -> None:
    """Its functions have fewer inputs than those of a model with static layers."""
    model, x = two_convolutions(), random_array(2, 4, 6, 7)
    once = compiled(model, {"conv1": SESSION}, lowering=lowering).model
    twice = compiled(once, {"conv2": STATIC}, lowering=lowering).model
    assert_close(run_alone(twice, x), run_alone(model, x))


def test_tables_beyond_the_memory_are_made_in_each_run() -> None:
    """In the order of the model; a smaller layer may still find room."""
    layers = {"conv1": STATIC, "conv2": STATIC}
    size = 2 * (8 + 1) * 9 * 16 * 4
    for memory, kept in ((1, [True, True]), (0, [False, False])):
        result = compiled(two_convolutions(), layers, table_memory=memory)
        assert [(line.table_bytes, line.keeps_tables) for line in result.layers] == [(size, each) for each in kept]
        nodes = [attributes_of(node) for node in result.model.graph.node]
        assert [own.get("keep_tables", 1) for own in nodes] == [int(each) for each in kept]


def test_some_tables_may_be_kept_and_others_not() -> None:
    large = make_settings(family="sign", layout="channel", L=1, H=10, scope="static")
    fitted = Fitted(centroids={"conv1": random_array(4, 2**10, 1), "conv2": CENTROIDS})
    config = ReuseConfig(layers={"conv1": large, "conv2": STATIC})
    first, second = lower(two_convolutions(), CompileOptions(table_memory=2), config, fitted).layers
    assert (first.table_bytes, first.keeps_tables) == (4 * (2**10 + 1) * 9 * 16 * 4, False)
    assert second.keeps_tables


@pytest.mark.parametrize(
    ("layout", "length", "table", "expected"),
    [
        ("channel", 8, "int8", 32 * 257 * 9 * 256),
        ("channel", 8, "float", 32 * 257 * 9 * 256 * 4),
        ("patch", 9, "int8", 256 * 257 * 256),
    ],
)
def test_the_size_of_tables_is_the_contract_s(layout: str, length: int, table: str, expected: int) -> None:
    spec = ConvSpec(1, 256, 56, 56, 256, (3, 3))
    settings = make_settings(family="learned", layout=layout, L=length, H=8, scope="static", table=table)
    assert table_bytes(spec, settings) == expected
    assert table_bytes(spec, settings.model_copy(update={"scope": "batch"})) == 0


@pytest.mark.parametrize(
    ("table", "channels", "padded"), [("float", 20, 32), ("float", 70, 128), ("int8", 20, 64), ("int8", 70, 128)]
)
def test_channels_of_a_group_are_padded(table: str, channels: int, padded: int) -> None:
    spec = ConvSpec(1, 8, 9, 9, 2 * channels, (3, 3), group=2)
    settings = make_settings(family="sign", layout="channel", L=3, H=2, scope="static", table=table)
    assert table_bytes(spec, settings) == 4 * 5 * 9 * padded * (4 if table == "float" else 1)


def test_a_file_holds_centroids_and_trees_but_no_tables() -> None:
    """A layer of VGG: 1.14 of the original's size, whose tables take 18 MiB."""
    model = conv_model(weights=(256, 256, 3, 3), shape=(1, 256, 56, 56), pads=[1] * 4)
    settings = make_settings(family="learned", layout="channel", L=8, H=8, scope="static", table="int8")
    trees = HashParameters(
        thresholds=random_array(32, 255), coordinates=np.zeros((32, 255), np.int32), projections=random_array(32, 8, 8)
    )
    fitted = Fitted({"conv": trees}, centroids={"conv": random_array(32, 256, 8)})
    result = lower(model, CompileOptions(), ReuseConfig(layers={"conv": settings}), fitted)
    ratio = result.model.ByteSize() / model.ByteSize()
    assert 1.0 < ratio < 1.5 and round(ratio, 2) == 1.14
    assert result.layers[0].table_bytes == 32 * 257 * 9 * 256


def test_static_without_a_configuration_says_what_finds_the_centroids() -> None:
    for family in (None, "sign"):
        with pytest.raises(ConfigError, match="reuse-calibrate --scope static finds them"):
            lower(conv_model(), CompileOptions(scope="static", family=family, force=True))


@pytest.mark.parametrize(
    ("scope", "centroids", "message"),
    [
        ("static", None, "scope static needs centroids"),
        ("static", random_array(2, 4, 2), r"'centroids' has shape \(2, 4, 2\), expected \(2, 8, 2\)"),
        ("static", np.full((2, 8, 2), np.inf, np.float32), "'centroids' has values that are not finite"),
        ("batch", CENTROIDS, "scope 'batch' takes no centroids"),
    ],
)
def test_centroids_that_do_not_fit_are_refused(scope: str, centroids: Any, message: str) -> None:
    settings = make_settings(family="exact" if scope == "batch" else "sign", layout="channel", L=2, H=3, scope=scope)
    parameters = HashParameters()
    if scope == "static":
        parameters = HashParameters(projections=random_array(2, 2, 3), thresholds=random_array(2, 3))
    plan = LayerPlan(ConvSpec(1, 4, 8, 8, 6, (3, 3)), settings, parameters, centroids=centroids)
    with pytest.raises(ConfigError, match=f"layer 'conv': {message}"):
        plan.check("conv")


def test_options_reach_a_session_layer() -> None:
    options = CompileOptions(scope="session", memory=5000, force=True)
    (decision,) = lower(conv_model(), options).decisions
    assert decision.settings is not None
    assert (decision.settings.scope, decision.settings.memory) == ("session", 5000)
    with pytest.raises(ConfigError, match="leave it off with another scope"):
        lower(conv_model(), CompileOptions(memory=5000, force=True))


def test_a_stream_keeps_the_sums_of_integer_layers(caplog: pytest.LogCaptureFixture) -> None:
    layers = {"conv1": STATIC, "conv2": STATIC.model_copy(update={"table": "int8"})}
    result = compiled(two_convolutions(), layers, stream=True)
    own = [attributes_of(node) for node in result.model.graph.node]
    assert ["incremental" in each for each in own] == [False, True]
    assert own[1]["incremental"] == 1 and own[1]["memory"] == 2**28
    assert [line.incremental for line in result.layers] == [False, True]
    assert "--stream" not in caplog.text
    onnx.checker.check_model(result.model)
    for settings, table_memory in ((STATIC, 512), (layers["conv2"], 0)):
        result = compiled(two_convolutions(), {"conv2": settings}, stream=True, table_memory=table_memory)
        assert not any("incremental" in attributes_of(node) for node in result.model.graph.node)
        assert "--stream changes nothing" in caplog.text
        caplog.clear()
