"""What the calibration reads as a layer's input, whatever order the compiled model keeps its data in."""

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.calibration.deploy import Deployer, input_of
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.layers import Workpiece, examine
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.reuse.config import LayerSettings
from tests.comparison import assert_close
from tests.passes.models import model_of, random_array, run, tensor, value

FEED = {"x": random_array(2, 4, 12, 14)}
EXACT = LayerSettings.model_validate({"family": "exact", "layout": "channel", "L": 4, "H": 1})


def pooled(*outputs: str) -> onnx.ModelProto:
    """Input x -> conv1 -> r -> MaxPool -> p -> conv2 -> y."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w"], ["y"], name="conv2", pads=[1] * 4),
    ]
    weights = [tensor("w", 0.3 * random_array(4, 4, 3, 3))]
    return model_of(nodes, [value("x", FEED["x"].shape)], [value(name, [None] * 4) for name in outputs], weights)


@pytest.fixture
def work() -> Workpiece:
    return examine(pooled("y"), CalibrationOptions())


def test_layer_inputs_are_nchw_though_the_model_keeps_data_pixel_major(work: Workpiece) -> None:
    settings = {layer.name: EXACT for layer in work.layers}
    plan = Deployer(work, [FEED], EFFORTS["quick"], 0).deploy(settings, "none").plan
    model = apply_plan(work.prepared, plan).model
    assert [node.op_type for node in model.graph.node] == ["ReuseConv", "MaxPool", "ReuseConv"]
    ((x,),) = input_of(work, plan, work.layers[1], [FEED])
    p, y = run(pooled("p", "y"), FEED)
    assert_close(np.asarray(x), p)
    assert_close(run(model, FEED)[0], y)
