"""Quantised layers with static clusters: what the model becomes, and what is refused."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from reuse_compiler.graph.tensors import to_array
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.pipeline import Lowered, find_layers, lower
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig, make_settings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.plan import LayerWeights
from tests.passes.models import Array, random_array
from tests.passes.test_quantised import MODELS, integers, qdq_model, run
from tests.running import make_session

STATIC = make_settings(family="learned", layout="channel", L=2, H=3, scope="static", table="int8")


def compiled(model: onnx.ModelProto, settings: LayerSettings = STATIC, refit: bool = False, **options: Any) -> Lowered:
    """Compiles with a random tree for each block of two channels, random centroids, and perhaps fitted weights."""
    (layer,) = find_layers(model).layers
    assert isinstance(layer, ConvLayer)
    blocks, shape = STATIC.blocking(layer.spec).num_blocks, layer.spec.weight_shape
    coordinates = np.random.default_rng(0).integers(0, 2, (blocks, 7)).astype(np.int32)
    fitted = Fitted(
        {"conv": HashParameters(thresholds=random_array(blocks, 7), coordinates=coordinates)},
        {"conv": LayerWeights(random_array(*shape), random_array(shape[0]))} if refit else {},
        {"conv": random_array(blocks, 8, 2)},
    )
    return lower(model, CompileOptions(**options), ReuseConfig(layers={"conv": settings}), fitted)


def inputs_of(model: onnx.ModelProto) -> Array:
    declared = model.graph.input[0].type.tensor_type
    x = integers(*(size.dim_value for size in declared.shape.dim), element=np.uint8)
    return x.view(helper.tensor_dtype_to_np_dtype(declared.elem_type))


def check_runs(model: onnx.ModelProto, lowered: onnx.ModelProto, alone: onnx.ModelProto) -> None:
    """Compares what a model became, and that without functions, with the reference, its functions with the model."""
    x = inputs_of(model)
    np.testing.assert_array_equal(run(lowered, x), run(model, x))
    own = onnx.ModelProto()
    own.CopyFrom(lowered)
    del own.functions[:]
    (expected,) = cast("list[Array]", ReferenceEvaluator(own, new_ops=REFERENCE_OPS).run(None, {"x_q": x}))
    result = make_session(lowered).run(None, {"x_q": x})
    np.testing.assert_array_equal(result[0], np.asarray(expected), strict=True)
    np.testing.assert_array_equal(make_session(alone).run(None, {"x_q": x})[0], result[0])
    assert (result[0] != run(model, x)).any()


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_the_model_runs_with_the_library_and_is_the_original_without(kind: str, refit: bool) -> None:
    model = MODELS[kind]
    lowered = compiled(model, refit=refit)
    assert [(line.decision, line.scope, line.table) for line in lowered.layers] == [("reuse", "static", "int8")]
    check_runs(model, lowered.model, compiled(model, refit=refit, fallback=False).model)


def test_fitted_weights_stand_beside_the_originals() -> None:
    graph = compiled(qdq_model(bias=np.arange(6, dtype=np.int32)), refit=True).model.graph
    (node,) = [each for each in graph.node if each.op_type == "QLinearReuseConv"]
    constants = {each.name: to_array(each) for each in graph.initializer}
    assert [constants[name].dtype.kind for name in (node.input[3], node.input[8], *node.input[13:])] == [*"iiff"]
    assert constants[node.input[9]].size == 0 and constants[node.input[12]].shape == (2, 8, 2)


def test_a_stream_keeps_sums_where_it_keeps_tables() -> None:
    (line,) = compiled(qdq_model(), stream=True).layers
    assert line.incremental and line.keeps_tables
    (line,) = compiled(qdq_model(), stream=True, table_memory=0).layers
    assert not line.incremental and line.keeps_tables is False


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({"table": "float"}, {}, "clusters of bytes by code cover layout channel and table int8"),
        ({"layout": "patch"}, {}, "clusters of bytes by code cover layout channel and table int8"),
        ({}, {"lowering": "staged"}, "needs --lowering fused"),
    ],
)
def test_what_it_does_not_cover_is_refused(changes: dict[str, Any], options: dict[str, Any], sentence: str) -> None:
    (line,) = compiled(qdq_model(), STATIC.model_copy(update=changes), **options).layers
    assert line.decision == "dense" and sentence in line.reason


def with_float_result() -> onnx.ModelProto:
    model = qdq_model()
    del model.graph.node[-1]
    model.graph.output[0].name = "c"
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def test_a_result_of_floats_is_refused() -> None:
    (line,) = compiled(with_float_result()).layers
    assert line.decision == "dense" and "need a result that is quantised, too" in line.reason
