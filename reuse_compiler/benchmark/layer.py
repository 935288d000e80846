"""The measured layer as ONNX models: as it is, and with reuse in either form."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.inputs import LayerInput
from reuse_compiler.errors import ConfigError
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import Lowering, ReuseConfig
from reuse_compiler.reuse.fitted import Fitted

NAME, INPUT, OUTPUT = "conv", "x", "y"


def dense_model(case: ConvCase) -> onnx.ModelProto:
    """Returns a model of one Conv with bias and ReLU, weights scaled so that outputs have about unit variance."""
    g, rng = case.spec, np.random.default_rng([case.seed, 1])
    weights = rng.standard_normal(g.weight_shape) / np.sqrt(g.columns)
    initializers = {"w": weights, "b": 0.1 * rng.standard_normal(g.out_channels)}
    nodes = [
        helper.make_node("Conv", [INPUT, "w", "b"], ["c"], NAME, **attributes_of(g)),
        helper.make_node("Relu", ["c"], [OUTPUT], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, g.input_shape)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, g.output_shape)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def reuse_model(dense: onnx.ModelProto, case: ConvCase, data: LayerInput, lowering: Lowering) -> onnx.ModelProto:
    """Returns the layer as the compiler rewrites it, whatever the cost; raises ConfigError if it cannot."""
    config = ReuseConfig(layers={NAME: case.settings(data.num_hashes)})
    centroids = {} if data.centroids is None else {NAME: data.centroids}
    fitted = Fitted({NAME: data.parameters}, centroids=centroids)
    lowered = lower(dense, CompileOptions(lowering=lowering), config, fitted)
    layer = lowered.layers[0]
    if layer.decision != "reuse":
        raise ConfigError(f"the compiler leaves this convolution as it is: {layer.reason}")
    return lowered.model
