"""Tuning a plan of an ONNX model: its static layers' weights, biases and centroids learn from the model itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from reuse_compiler.errors import ConfigError
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.plan import LayerPlan, LayerWeights, Plan
from reuse_compiler.training.layer import ReuseConv2d, until_fitted
from reuse_compiler.training.onnx_module import OnnxModule
from reuse_compiler.training.refit import array_of
from reuse_compiler.training.tuning import TuneOptions, TuneReport, tune

RATE = 2e-3
"""Relative rate at the beginning. Weights move as far as at the absolute rate that suits the VGG for CIFAR-10,
centroids, which are larger, further."""
MOST_DIFFERENCE = 1e-3
"""Relative L2 error of PyTorch's results against onnxruntime's, at most: more is no rounding."""


def tune_plan(
    model: onnx.ModelProto,
    plan: Plan,
    results: Mapping[str, str],
    batches: Sequence[NDArray[np.float32]],
    expected: Sequence[NDArray[np.float32]],
    steps: int,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> tuple[Plan, TuneReport]:
    """Returns the plan with what its static layers have learned, by distillation from `model`, and how that went.

    `results` are the tensors that the plan's Conv nodes compute, by layer. `batches` are inputs of one shape without
    labels; the last two only judge. `expected` are the model's outputs for the first one. Codes stay those of the
    trees. Raises ConfigError for a model that cannot be computed in PyTorch, and DataError for too few batches.
    """
    teacher = OnnxModule(model).eval().requires_grad_(False)
    inputs = [torch.from_numpy(batch) for batch in batches]
    _compare(teacher, inputs[0], expected)
    student = copy.deepcopy(teacher)
    layers = {name: _reuse_layer(student, name, teacher.names[results[name]], own) for name, own in plan.items()}
    classes = all(output.ndim == 2 for output in expected) and "Softmax" not in {n.op_type for n in model.graph.node}
    options = TuneOptions(
        steps, relative_rate=RATE, output="kl" if classes else "relative", begin_as_given=True, seed=seed
    )
    report = tune(student, inputs, teacher, options, progress)
    return {name: _tuned(own, layers[name]) for name, own in plan.items()}, report


def _compare(teacher: OnnxModule, x: torch.Tensor, expected: Sequence[NDArray[np.float32]]) -> None:
    """Raises ConfigError unless the model computes in PyTorch what it does in onnxruntime."""
    with torch.no_grad():
        found = teacher(x)
    for own, wanted in zip(found if isinstance(found, list) else [found], expected, strict=True):
        error = np.linalg.norm(array_of(own) - wanted)
        if not error <= MOST_DIFFERENCE * np.linalg.norm(wanted):
            raise ConfigError("the model computes something else in PyTorch than in onnxruntime")


def _reuse_layer(student: OnnxModule, name: str, module: str, plan: LayerPlan) -> ReuseConv2d:
    """Puts reuse in the place of a convolution; with float tables, through which gradients are exact."""
    conv = student.get_submodule(module)
    assert isinstance(conv, nn.Conv2d)
    if plan.weights is not None:
        conv.weight = nn.Parameter(torch.from_numpy(plan.weights.weight.copy()))
        conv.bias = nn.Parameter(torch.from_numpy(plan.weights.bias.copy()))
    settings = plan.settings.model_copy(update={"table": "float"})
    layer = ReuseConv2d.of(conv, until_fitted(settings), name, gradient="straight_through")
    layer.set_settings(settings, plan.parameters, plan.centroids)
    layer.requires_grad_(settings.scope == "static")
    setattr(student, module, layer)
    return layer


def _tuned(plan: LayerPlan, layer: ReuseConv2d) -> LayerPlan:
    if plan.settings.scope != "static":
        return plan
    bias = np.zeros(plan.spec.out_channels, np.float32) if layer.bias is None else array_of(layer.bias)
    return replace(plan, weights=LayerWeights(array_of(layer.weight), bias), centroids=layer.plan.centroids)
