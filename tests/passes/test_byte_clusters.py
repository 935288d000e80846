"""Quantised layers with a hash and clusters of the batch or of the image: what the model becomes, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.pipeline import Lowered, find_layers, lower
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig, make_settings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import Fitted
from tests.passes.models import random_array
from tests.passes.test_quantised import MODELS, integers, qdq_model, run
from tests.passes.test_static_bytes import check_runs, with_float_result
from tests.running import make_session

OF_IMAGES = make_settings(family="learned", layout="channel", L=2, H=3, scope="image", table="int8")
OF_BATCH = make_settings(family="learned", layout="channel", L=1, H=4, table="int8")


def compiled(model: onnx.ModelProto, settings: LayerSettings = OF_IMAGES, **options: Any) -> Lowered:
    """Compiles with a random tree for each block."""
    (layer,) = find_layers(model).layers
    assert isinstance(layer, ConvLayer)
    blocks, nodes = settings.blocking(layer.spec).num_blocks, 2**settings.num_hashes - 1
    coordinates = np.random.default_rng(0).integers(0, settings.sub_vector_length, (blocks, nodes)).astype(np.int32)
    parameters = HashParameters(thresholds=random_array(blocks, nodes), coordinates=coordinates)
    config = ReuseConfig(layers={"conv": settings})
    return lower(model, CompileOptions(**options), config, Fitted({"conv": parameters}))


@pytest.mark.parametrize("settings", [OF_IMAGES, OF_BATCH], ids=["image", "batch"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_model_runs_with_the_library_and_is_the_original_without(kind: str, settings: LayerSettings) -> None:
    model = MODELS[kind]
    lowered = compiled(model, settings)
    assert [(line.decision, line.scope, line.table) for line in lowered.layers] == [("reuse", settings.scope, "int8")]
    check_runs(model, lowered.model, compiled(model, settings, fallback=False).model)


def test_hyperplanes_need_no_samples() -> None:
    model = qdq_model()
    lowered = lower(model, CompileOptions(family="sign", num_hashes=5, sub_vector_length=2, table="int8", force=True))
    (node,) = [each for each in lowered.model.graph.node if each.op_type == "QLinearReuseConv"]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert (attributes["family"], attributes["num_hashes"], attributes["scope"]) == (b"sign", 5, b"batch")
    x = integers(2, 4, 9, 9, element=np.uint8)
    assert make_session(lowered.model).run(None, {"x_q": x})[0].shape == run(model, x).shape


def test_a_stream_keeps_nothing() -> None:
    (line,) = compiled(qdq_model(), stream=True).layers
    assert line.decision == "reuse" and not line.incremental


def test_a_result_of_floats_is_refused() -> None:
    (line,) = compiled(with_float_result()).layers
    assert line.decision == "dense" and "need a result that is quantised, too" in line.reason
