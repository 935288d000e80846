"""Turns settings for some layers into a model: layer after layer, fitted to what the earlier layers' reuse leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from reuse_compiler.calibration.activations import Activations, Start
from reuse_compiler.calibration.clusters import Clusterer
from reuse_compiler.calibration.effort import Effort, reconstruction_rows
from reuse_compiler.calibration.fit import HashFitter, VectorSampler
from reuse_compiler.calibration.layers import ConvLayer, Workpiece
from reuse_compiler.calibration.options import Reconstruct
from reuse_compiler.calibration.reconstruct import (
    Moments,
    Reconstruction,
    affordable,
    overall_errors,
    reconstruct,
)
from reuse_compiler.calibration.rows import Floats, Places, choose_places, pixels_at
from reuse_compiler.options import CompileOptions, DataOrderChoice
from reuse_compiler.pipeline import lower
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.fitted import Fitted, LayerWeights
from reuse_compiler.reuse.seeds import layer_generator
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.verify import LayerTensor, in_chunks

CHECKED_SHARE = 4
"""One run in so many, at least one (or one row, if there is one run only), judges reconstructions."""


@dataclass
class Deployment:
    """Settings with all that was fitted for them."""

    layers: dict[str, LayerSettings] = field(default_factory=dict)
    fitted: Fitted = field(default_factory=Fitted)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By layer: relative error of its output with the earlier layers' reuse on, as is and reconstructed."""

    def model(self, work: Workpiece, data_order: DataOrderChoice = "auto") -> onnx.ModelProto:
        """Returns the model with these layers rewritten. With data order `nchw` it has all tensors of the original."""
        options = CompileOptions(shapes=work.shapes, data_order=data_order)
        return lower(work.model, options, ReuseConfig(layers=self.layers), self.fitted).model

    def input_of(
        self, work: Workpiece, layer: ConvLayer, feeds: Sequence[Feed], start: Start | None = None
    ) -> Activations:
        """Returns what these layers' reuse leaves to `layer` as its input, in the order NCHW, run by run."""
        return Activations(self.model(work, "nchw"), [layer.input], feeds, "compiled", start)


class Deployer:
    """Fits layers of one model to one set of runs. What the original layers compute is collected once."""

    def __init__(self, work: Workpiece, feeds: Sequence[Feed], effort: Effort, seed: int) -> None:
        self._work, self._feeds, self._effort, self._seed = work, feeds, effort, seed
        self._targets: dict[str, list[Floats]] = {}

    def collect_targets(self, names: Iterable[str], progress: ProgressCallback = silent) -> None:
        """Runs the original model and keeps the layers' outputs at the places that reconstruction looks at."""
        layers = {layer.name: layer for layer in self._work.layers if layer.name in names}
        sizes = {name: 4 * layer.geometry.rows * layer.geometry.out_channels for name, layer in layers.items()}
        pieces = [LayerTensor(name, layer.output, sizes[name]) for name, layer in layers.items()]
        done = 0
        for chunk in in_chunks(pieces):
            run = Activations(self._work.model, [piece.tensor for piece in chunk], self._feeds, "original")
            for index, tensors in enumerate(run):
                for piece, tensor in zip(chunk, tensors, strict=True):
                    layer = layers[piece.layer]
                    rows = pixels_at(layer.lift(tensor), self._places(layer, index))
                    self._targets.setdefault(layer.name, []).append(rows)
                progress("collecting layer outputs", done + index * len(chunk) // len(run), len(pieces))
            done += len(chunk)
        progress("collecting layer outputs", len(pieces), len(pieces))

    def deploy(
        self,
        settings: Mapping[str, LayerSettings],
        how: Reconstruct,
        progress: ProgressCallback = silent,
        what: str = "fitting",
    ) -> Deployment:
        """Fits the given layers in graph order; the others stay as they are."""
        missing = settings.keys() - self._targets.keys()
        if how != "none" and missing:
            self.collect_targets(missing, progress)
        deployment, start = Deployment(), None
        for index, layer in enumerate(layer for layer in self._work.layers if layer.name in settings):
            progress(what, index, len(settings))
            inputs = deployment.input_of(self._work, layer, self._feeds, start)
            self._add(deployment, layer, settings[layer.name], inputs, how)
            start = inputs.as_start()
        progress(what, len(settings), len(settings))
        return deployment

    def _add(
        self,
        deployment: Deployment,
        layer: ConvLayer,
        settings: LayerSettings,
        inputs: Activations,
        how: Reconstruct,
    ) -> None:
        """Fits one layer to the input that the layers of `deployment` leave it, and adds it to them."""
        parameters = self._hash(layer, settings, inputs)
        weights = dict(deployment.fitted.weights)
        if how != "none" and not FAMILIES[settings.family].lossless:
            groups = self._reconstruct(layer, settings, parameters, inputs, how)
            weights[layer.name] = LayerWeights(
                layer.folded_weight(np.stack([group.weight for group in groups])),
                np.concatenate([group.bias for group in groups]),
            )
            deployment.errors[layer.name] = overall_errors(groups)
        deployment.layers[layer.name] = settings
        deployment.fitted = Fitted({**deployment.fitted.parameters, layer.name: parameters}, weights)

    def _hash(self, layer: ConvLayer, settings: LayerSettings, inputs: Activations) -> HashParameters:
        sampler = VectorSampler(layer, settings.layout, self._effort.fit_vectors, len(inputs), self._seed)
        for (x,) in inputs:
            sampler.add(x)
        return HashFitter(sampler.sample(), [settings.num_hashes]).fit(settings)

    def _reconstruct(
        self,
        layer: ConvLayer,
        settings: LayerSettings,
        parameters: HashParameters,
        inputs: Activations,
        how: Reconstruct,
    ) -> list[Reconstruction]:
        g = layer.geometry
        how = affordable(how, g.columns)
        weights, own_weights = [layer.unfolded_weight(group) for group in range(g.group)], None
        if how == "statistics":
            # Only the layer's results matter, so that those take the place of the rows they are computed from.
            own_weights, weights = weights, [np.eye(g.group_out_channels, dtype=np.float32)] * g.group
        fit, check = ([Moments(*weight.shape) for weight in weights] for _ in range(2))
        clusterer = Clusterer(self._work, layer, settings, parameters)
        checked = max(1, len(inputs) // CHECKED_SHARE)
        for index, (x,) in enumerate(inputs):
            places, target = self._places(layer, index), self._targets[layer.name][index]
            held_back = index >= len(inputs) - checked
            for group, rows in enumerate(clusterer.reused_rows(x, places)):
                own = target[:, group * g.group_out_channels : (group + 1) * g.group_out_channels]
                if own_weights is not None:
                    rows = rows @ own_weights[group]
                if len(inputs) == 1:
                    check[group].add(rows[::CHECKED_SHARE], own[::CHECKED_SHARE])
                    kept = np.arange(len(rows)) % CHECKED_SHARE != 0
                    rows, own = rows[kept], own[kept]
                    held_back = False
                (check if held_back else fit)[group].add(rows, own)
        biases = layer.bias.reshape(g.group, -1)
        found = [reconstruct(fit[group], check[group], weights[group], biases[group], how) for group in range(g.group)]
        if own_weights is not None:
            found = [replace(own, weight=before @ own.weight) for own, before in zip(found, own_weights, strict=True)]
        return found

    def _places(self, layer: ConvLayer, run: int) -> Places:
        """Returns the output pixels of a run that reconstruction looks at: the same ones every time."""
        g = layer.geometry
        count = -(-reconstruction_rows(self._effort, g.columns) // len(self._feeds))
        return choose_places(layer_generator(self._seed + 1 + run, layer.name), g.rows, count)
