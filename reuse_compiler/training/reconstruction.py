"""Calibration's reconstruction for PyTorch models: closed-form weights for layers whose input is clustered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from reuse_compiler.calibration.clusters import reused_rows
from reuse_compiler.calibration.deploy import CHECKED_SHARE
from reuse_compiler.calibration.effort import EFFORTS, reconstruction_rows
from reuse_compiler.calibration.layers import ConvLayer
from reuse_compiler.calibration.options import Reconstruct
from reuse_compiler.calibration.reconstruct import (
    Moments,
    Reconstruction,
    affordable,
    overall_errors,
    reconstruct,
)
from reuse_compiler.calibration.rows import Floats, Places, choose_places, pixels_at
from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvGeometry
from reuse_compiler.reuse.seeds import layer_generator
from reuse_compiler.training.conversion import geometries, reuse_layers
from reuse_compiler.training.distributed import from_first_rank
from reuse_compiler.training.evaluation import evaluating
from reuse_compiler.training.layer import ReuseConv2d
from reuse_compiler.training.refit import as_conv_layer, fitted_hash, inputs_of
from reuse_compiler.training.shapes import geometry_of

EFFORT = EFFORTS["default"]


def reconstruct_model(
    model: nn.Module,
    batches: Sequence[Tensor],
    teacher: nn.Module,
    how: Reconstruct = "weights",
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> dict[str, tuple[float, float]]:
    """Fits hashes and weights of a converted model's layers, one after the other, with the reuse before them on.

    Hashes are fitted to the inputs that the layers get, then weight and bias to what the layer of the same name
    computes in `teacher`, the original model. A layer without bias gets one. Returns the relative error of each layer's
    output before and after, on rows that were held back. Batches must have the same shape; both models run in
    evaluation mode. Raises ConfigError if the teacher lacks a layer.
    """
    if not batches:
        raise DataError("reconstruction needs at least one batch")
    if any(batch.shape != batches[0].shape for batch in batches):
        raise DataError("reconstruction needs batches of the same shape: leave out the last, smaller one")
    own = {name: layer for name, layer in reuse_layers(model).items() if layer.reuse}
    order = [name for name in geometries(model, batches[0]) if name in own]
    targets = _targets(teacher, {name: own[name] for name in order}, batches, seed)
    errors = {}
    for index, name in enumerate(order):
        progress("reconstructing", index, len(order))
        layer = own[name]
        inputs = inputs_of(model, layer, batches)
        layer.set_settings(layer.settings, from_first_rank(fitted_hash(layer, layer.settings, inputs, seed)))
        if how == "none" or FAMILIES[layer.settings.family].lossless:
            continue
        described = as_conv_layer(_teacher_layer(teacher, name), name, geometry_of(layer, inputs[0].shape))
        groups = _reconstruct(
            layer, described, inputs, targets[name], affordable(how, described.geometry.columns), seed
        )
        _set_weights(layer, described, groups)
        errors[name] = overall_errors(groups)
    progress("reconstructing", len(order), len(order))
    return errors


def _teacher_layer(teacher: nn.Module, name: str) -> nn.Conv2d:
    layer = dict(teacher.named_modules()).get(name)
    if not isinstance(layer, nn.Conv2d) or isinstance(layer, ReuseConv2d):
        raise ConfigError(f"the teacher must be the original model: it has no plain Conv2d named '{name}'")
    return layer


def _targets(
    teacher: nn.Module, layers: Mapping[str, ReuseConv2d], batches: Sequence[Tensor], seed: int
) -> dict[str, list[Floats]]:
    """Returns what the teacher's layers compute, rows `[n, M]` of each batch at the places that are looked at."""
    found: dict[str, list[Floats]] = {name: [] for name in layers}

    def take(name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        geometry = geometry_of(module, x.shape)
        places = _places(geometry, name, len(batches), len(found[name]), seed)
        found[name].append(pixels_at(_array(y), places))

    handles = [
        _teacher_layer(teacher, name).register_forward_hook(
            lambda module, inputs, y, name=name: take(name, module, inputs[0], y)
        )
        for name in layers
    ]
    try:
        with evaluating(teacher):
            for batch in batches:
                teacher(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _places(geometry: ConvGeometry, name: str, runs: int, run: int, seed: int) -> Places:
    count = -(-reconstruction_rows(EFFORT, geometry.columns) // runs)
    return choose_places(layer_generator(seed + 1 + run, name), geometry.rows, count)


def _reconstruct(
    layer: ReuseConv2d,
    original: ConvLayer,
    inputs: Sequence[Tensor],
    targets: Sequence[Floats],
    how: Reconstruct,
    seed: int,
) -> list[Reconstruction]:
    """Returns the solution of each group; every CHECKED_SHARE-th row judges what is tried."""
    g = original.geometry
    weights, before = [original.unfolded_weight(group) for group in range(g.group)], None
    if how == "statistics":
        # Only results matter, so those take the place of the rows they are computed from.
        before, weights = weights, [np.eye(g.group_out_channels, dtype=np.float32)] * g.group
    fit, check = ([Moments(*weight.shape) for weight in weights] for _ in range(2))
    for run, (x, target) in enumerate(zip(inputs, targets, strict=True)):
        places = _places(g, original.name, len(inputs), run, seed)
        clusters = layer.clusters_of(x)
        rows_of = reused_rows(clusters.ids.cpu().numpy(), clusters.centroid_array(), clusters.blocking, places)
        for group, rows in enumerate(rows_of):
            y = target[:, group * g.group_out_channels : (group + 1) * g.group_out_channels]
            if before is not None:
                rows = rows @ before[group]
            held_back = np.arange(len(rows)) % CHECKED_SHARE == 0
            check[group].add(rows[held_back], y[held_back])
            fit[group].add(rows[~held_back], y[~held_back])
    biases = original.bias.reshape(g.group, -1)
    found = [reconstruct(fit[group], check[group], weights[group], biases[group], how) for group in range(g.group)]
    if before is not None:
        found = [replace(own, weight=own_before @ own.weight) for own, own_before in zip(found, before, strict=True)]
    return found


def _set_weights(layer: ReuseConv2d, original: ConvLayer, groups: Sequence[Reconstruction]) -> None:
    weight = torch.from_numpy(original.folded_weight(np.stack([group.weight for group in groups])))
    bias = torch.from_numpy(np.concatenate([group.bias for group in groups]))
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0, 0, 0]))
        layer.bias.copy_(bias)


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
