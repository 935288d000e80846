"""Sizes that inference cannot follow are measured, and the model is as before."""

from pathlib import Path

import numpy as np
from onnx import helper

from reuse_compiler.graph.shapes import tensor_shapes
from reuse_compiler.verification.probes import measure_shapes
from tests.passes.models import model_of, random_array, tensor, value


def test_shapes_come_from_a_run(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["sizes"], ["target"]),
        helper.make_node("Reshape", ["x", "target"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    sizes = tensor("sizes", np.array([-3, -4, -5], np.int64))
    model = model_of(nodes, [value("x", [12, 5])], [value("y", None)], [sizes])
    before = model.SerializeToString()
    assert tensor_shapes(model, {"x": (12, 5)}).get("r") in (None, (None, None, None))
    feed = {"x": random_array(12, 5)}
    assert measure_shapes(model, ["r", "y"], feed, 1, tmp_path) == {"r": (3, 4, 5), "y": (3, 4, 5)}
    assert model.SerializeToString() == before
