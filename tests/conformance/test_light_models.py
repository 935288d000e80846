"""The topologies of real networks that come with the onnx package compile, or decline layer by layer with reasons."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from reuse_compiler.graph import load_model
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from tests.comparison import assert_close
from tests.passes.models import run

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = sorted(FOLDER.glob("light_*.onnx"))
DEPTHWISE = {"light_shufflenet": 16}
"""Depthwise convolutions by model; the others have none."""
RUN = ("light_squeezenet", "light_shufflenet")
"""Small enough to run here with every layer lossless."""


def test_the_package_brings_the_topologies() -> None:
    assert len(MODELS) >= 8


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_layer_is_rewritten_or_declined_with_a_reason(path: Path) -> None:
    model = load_model(path)
    convs = sum(node.op_type == "Conv" for node in model.graph.node)
    lowered = lower(model, CompileOptions(family="sign"))
    assert len(lowered.layers) == convs > 0
    decisions = Counter(layer.decision for layer in lowered.layers)
    assert sum(node.op_type == "ReuseConv" for node in lowered.model.graph.node) == decisions["reuse"]
    assert sum(node.op_type == "Conv" for node in lowered.model.graph.node) == decisions["dense"]
    for layer in lowered.layers:
        assert layer.reason.startswith(("predicted cost", "it is depthwise")), layer
        assert layer.predicted_cost is None or (layer.predicted_cost < 1) == (layer.decision == "reuse")
    assert sum("depthwise" in layer.reason for layer in lowered.layers) == DEPTHWISE.get(path.stem, 0)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_force_rewrites_all_but_depthwise(path: Path) -> None:
    model = load_model(path)
    lowered = lower(model, CompileOptions(family="exact", force=True))
    dense = [layer for layer in lowered.layers if layer.decision == "dense"]
    assert len(dense) == DEPTHWISE.get(path.stem, 0)
    if path.stem in RUN:
        (entry,) = [v for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}]
        shape = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        feeds = {entry.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
        assert_close(run(lowered.model, feeds)[0], run(model, feeds)[0])
