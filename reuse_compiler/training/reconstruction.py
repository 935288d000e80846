"""Calibration's reconstruction for PyTorch models: closed-form weights for layers whose input is clustered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.fitting.reconstruct import LayerFit, LayerReconstruction, Reconstruct, places_of_run
from reuse_compiler.fitting.vectors import Floats, pixels_at
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.training.conversion import reuse_layers, specs_of
from reuse_compiler.training.evaluation import evaluating, watching
from reuse_compiler.training.layer import ReuseConv2d
from reuse_compiler.training.refit import array_of, fit_layer, inputs_of
from reuse_compiler.training.shapes import spec_of
from reuse_compiler.training.static_centroids import codes_and_centroids


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
    order = [name for name in specs_of(model, batches[0]) if name in own]
    targets = _targets(teacher, {name: own[name] for name in order}, batches, seed)
    errors = {}
    for index, name in enumerate(order):
        progress("reconstructing", index, len(order))
        layer = own[name]
        inputs = inputs_of(model, layer, batches)
        fit_layer(layer, layer.settings, inputs, seed)
        if how == "none" or FAMILIES[layer.settings.family].lossless:
            continue
        original = _teacher_layer(teacher, name)
        bias = torch.zeros(original.out_channels) if original.bias is None else original.bias
        blocking = layer.blocking(layer.settings, inputs[0].shape)
        fit = LayerFit(blocking, array_of(original.weight), array_of(bias), how, layer.plan.centroids)
        for run, (x, target) in enumerate(zip(inputs, targets[name], strict=True)):
            clusters = layer.clusters_of(x)
            places = places_of_run(name, clusters.blocking.spec, run, len(inputs), seed)
            if layer.settings.scope == "static":
                ids, centroids = codes_and_centroids(clusters, layer.centroids)
            else:
                ids, centroids = clusters.ids.cpu().numpy(), clusters.centroid_array()
            fit.add(ids, centroids, places, target)
        found = fit.solve()
        _set_weights(layer, found)
        layer.set_settings(layer.settings, layer.parameters_of_hash, found.centroids)
        errors[name] = (found.error_as_is, found.error)
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

    def take(name: str, module: nn.Conv2d, x: Tensor, y: Tensor) -> None:
        places = places_of_run(name, spec_of(module, x.shape), len(found[name]), len(batches), seed)
        found[name].append(pixels_at(array_of(y), places))

    with watching({name: _teacher_layer(teacher, name) for name in layers}, take), evaluating(teacher):
        for batch in batches:
            teacher(batch)
    return found


def _set_weights(layer: ReuseConv2d, found: LayerReconstruction) -> None:
    weight, bias = torch.from_numpy(found.weight), torch.from_numpy(found.bias)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0, 0, 0]))
        layer.bias.copy_(bias)
