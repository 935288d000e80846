"""Tuning an existing model so that it tolerates more reuse: reconstruction, then distillation with reuse switched on.

The teacher is the original model; samples need no labels, but those they have are used. What the student is pulled
towards are the teacher's features, the outputs of all layers that were converted, and its outputs: a layer's gradient
does not have to find its way through all later layers' clustering. Rates are small, since reconstruction is a good
start, and they fall to zero; a model's own normalisation keeps its statistics.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.training.conversion import convolutions, reuse_layers, specs_of
from reuse_compiler.training.layer import ReuseConv2d
from reuse_compiler.training.normalisation import OutputNorms
from reuse_compiler.training.reconstruction import reconstruct_model
from reuse_compiler.training.refit import fit_to
from reuse_compiler.training.state import load_reuse_state, reuse_state

OutputLoss = Literal["relative", "kl"]
Precision = Literal["float32", "bfloat16"]
Stage = Literal["as_is", "reconstructed", "tuned"]
Batch = Tensor | Sequence[Tensor]
"""An input, or an input and the class of each of its samples, as a DataLoader gives them."""

LEAST_SIZE = 1e-2
"""Root mean square that rates are relative to at least: a bias of zeros is to learn, too."""

REFIT_SHARE = 0.5
"""Of the steps, the first ones, in which hashes are fitted anew; at the lower rates of the others they stay."""
REFIT_BATCHES = 4
"""At most, that hashes are fitted anew to: a few hundred images have as many vectors as are drawn."""

__all__ = ["OutputLoss", "TuneOptions", "TuneReport", "reconstruct_model", "tune"]


@dataclass(frozen=True)
class TuneOptions:
    """How a model is tuned."""

    steps: int = 240
    rate: float = 6e-5
    """Learning rate of Adam at the beginning; it falls to zero as a cosine. A few times more undoes reconstruction."""
    relative_rate: float | None = None
    """In place of `rate`, the rate of each parameter over its own root mean square."""
    features: float = 1.0
    """Weight of the converted layers' outputs, beside the model's output at 1."""
    output: OutputLoss = "relative"
    """Squared error over the teacher's energy, or for class scores the Kullback-Leibler divergence of their softmax."""
    labels: float = 1.0
    """Weight of the cross-entropy of batches with labels."""
    commitment: float = 0.0
    """Weight of the distances of static layers' inputs from their centroids, with precision bfloat16 only. Nothing else
    tells the layers before that only what a tree and its centroids can tell apart is of use."""
    augment: Callable[[Tensor], Tensor] | None = None
    """Makes of a batch what a step learns from, such as other crops; it draws by itself, the seed is not told to it."""
    warm_up: int = 0
    """Steps in which the rate rises from zero, before it falls."""
    precision: Precision = "float32"
    """Of distillation's steps. With bfloat16 convolutions without reuse and of scope static are computed in it."""
    refit_every: int = 0
    """Steps between hashes that are fitted anew, in the first half of all steps; 0: only before reconstruction. New
    trees throw away some of what was learned with the old ones, so they need many steps in between."""
    normalise: bool = False
    """Whether outputs of convolutions are normalised by batch during distillation, which then bears larger rates. It
    is folded into weights and biases afterwards."""
    begin_as_given: bool = False
    """Whether hashes, centroids and weights are good as they are, so that none are fitted before."""
    reconstruct: Reconstruct = "weights"
    reconstruction_batches: int = 8
    held_out: int = 2
    """Batches at the end of the data that take no part but to choose between reconstructed and tuned."""
    seed: int = 0

    def __post_init__(self) -> None:
        rate = self.rate if self.relative_rate is None else self.relative_rate
        if min(self.steps, self.refit_every, self.warm_up) < 0 or not 0.0 < rate < math.inf:
            raise ConfigError(f"steps and refit_every must not be below 0, rate must be finite and above it: {self}")
        if not all(0.0 <= weight < math.inf for weight in (self.features, self.labels, self.commitment)):
            raise ConfigError(f"features, labels and commitment must be finite and not below 0: {self}")
        if self.commitment and self.precision != "bfloat16":
            raise ConfigError("commitment needs precision bfloat16: distances are known where inputs are replaced")
        if self.reconstruction_batches < 1 or self.held_out < 1:
            raise ConfigError(f"reconstruction_batches and held_out must be at least 1: {self}")


@dataclass
class TuneReport:
    """What tuning did; losses are those of distillation on the held-out batches."""

    loss_as_is: float = 0.0
    loss_reconstructed: float = 0.0
    loss_tuned: float = 0.0
    layer_errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Relative error of each layer's output before and after reconstruction."""
    kept: Stage = "as_is"
    """What the model is now: whatever had the least loss."""


def tune(
    model: nn.Module,
    data: Iterable[Batch],
    teacher: nn.Module,
    options: TuneOptions | None = None,
    progress: ProgressCallback = silent,
    watch: Callable[[Stage], None] = lambda stage: None,
) -> TuneReport:
    """Tunes a converted model in place, towards `teacher`, the original one, and towards labels if there are any.

    `data` are inputs of the same shape, or pairs of one and its labels (int64 `[N]`, for the scores that the model
    returns); they are kept in memory and gone through in turn, in an order drawn from the seed. The model ends as the
    best of what it was (with fitted hashes), reconstructed and tuned, in evaluation mode.
    `watch` is called after each of these stages, when the model is the best one so far.
    """
    options = options or TuneOptions()
    batches = [_Sample.of(batch) for batch in data]
    if len(batches) <= options.held_out:
        raise DataError(f"tuning needs more than {options.held_out} batches, got {len(batches)}")
    if not any(layer.reuse for layer in reuse_layers(model).values()):
        raise ConfigError("the model has no layer with reuse: convert it first")
    held_out, batches = batches[-options.held_out :], batches[: -options.held_out]
    few = [batch.x for batch in batches[: options.reconstruction_batches]]
    model.eval()
    teacher.eval()
    report = TuneReport()
    tuner = _Tuner(model, teacher, options)
    if not options.begin_as_given:
        reconstruct_model(model, few, teacher, "none", options.seed)
    report.loss_as_is = report.loss_reconstructed = report.loss_tuned = tuner.loss_on(held_out)
    best = _Snapshot(model)
    watch("as_is")
    if options.reconstruct != "none" and not options.begin_as_given:
        report.layer_errors = reconstruct_model(model, few, teacher, options.reconstruct, options.seed, progress)
        report.loss_reconstructed = report.loss_tuned = tuner.loss_on(held_out)
        if report.loss_reconstructed < report.loss_as_is:
            best, report.kept = _Snapshot(model), "reconstructed"
        else:
            best.restore(model)
    watch("reconstructed")
    if options.steps:
        tuner.run(batches, few, progress)
        report.loss_tuned = tuner.loss_on(held_out)
        if report.loss_tuned < min(report.loss_reconstructed, report.loss_as_is):
            report.kept = "tuned"
        else:
            best.restore(model)
    model.eval()
    watch("tuned")
    return report


@dataclass(frozen=True)
class _Sample:
    """A batch."""

    x: Tensor
    labels: Tensor | None = None

    @staticmethod
    def of(batch: Batch) -> _Sample:
        return _Sample(batch) if isinstance(batch, Tensor) else _Sample(*batch)


class _Tuner:
    """Distils one model into another."""

    def __init__(self, model: nn.Module, teacher: nn.Module, options: TuneOptions) -> None:
        self._model, self._teacher, self._options = model, teacher, options
        self._layers = {name: layer for name, layer in reuse_layers(model).items() if layer.reuse}

    def run(self, batches: Sequence[_Sample], few: Sequence[Tensor], progress: ProgressCallback) -> None:
        """Takes all steps. Hashes are fitted in the order of execution, to the batches `few`."""
        if not self._options.normalise:
            self._take_steps(batches, few, [], progress)
            return
        norms = OutputNorms(self._model, few)
        try:
            self._take_steps(batches, few, norms.parameters(), progress)
            norms.fold(few)
        finally:
            norms.remove()

    def _take_steps(
        self,
        batches: Sequence[_Sample],
        few: Sequence[Tensor],
        further: Sequence[nn.Parameter],
        progress: ProgressCallback,
    ) -> None:
        """Besides the model's parameters the `further` ones learn."""
        options = self._options
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        rates_of = [{"params": [own], "lr": _rate(own, options)} for own in (*parameters, *further)]
        optimizer = torch.optim.Adam(rates_of)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_rate(step, options))
        generator = torch.Generator().manual_seed(options.seed)
        order: list[int] = []
        for step in range(options.steps):
            progress("tuning", step, options.steps)
            if options.refit_every and step % options.refit_every == 0 and 0 < step <= REFIT_SHARE * options.steps:
                self._refit(few, step)
                for layer in self._layers.values():
                    if isinstance(centroids := getattr(layer, "centroids", None), nn.Parameter):
                        optimizer.state.pop(centroids, None)  # moments of other centroids
            if not order:
                order = torch.randperm(len(batches), generator=generator).tolist()
            batch = batches[order.pop()]
            if options.augment is not None:
                batch = replace(batch, x=options.augment(batch.x))
            with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
                loss = self._loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
        progress("tuning", options.steps, options.steps)

    def loss_on(self, batches: Sequence[_Sample]) -> float:
        """Returns the mean loss."""
        with torch.no_grad():
            return sum(float(self._loss(batch)) for batch in batches) / len(batches)

    def _refit(self, batches: Sequence[Tensor], step: int) -> None:
        names = [name for name in specs_of(self._model, batches[0]) if name in self._layers]
        settings = {name: self._layers[name].settings for name in names}
        fit_to(self._model, self._layers, settings, batches[:REFIT_BATCHES], self._options.seed + step)

    def _loss(self, batch: _Sample) -> Tensor:
        x, layers = batch.x, self._layers if self._options.features else {}
        with torch.no_grad():
            wanted, wanted_features = _run(self._teacher, layers, x)
        distances: list[Tensor] = []
        for layer in self._layers.values():
            layer.distances = distances if self._options.commitment else None
        found, features = _run(self._model, layers, x)
        for layer in self._layers.values():
            layer.distances = None
        outputs = zip(_tensors(found), _tensors(wanted), strict=True)
        loss = sum((self._output_loss(a, b) for a, b in outputs), torch.zeros((), device=x.device))
        if self._options.features:
            pulls = [relative_error(features[name], wanted_features[name]) for name in layers if name in features]
            loss = loss + self._options.features * torch.stack(pulls).mean()
        if distances:
            loss = loss + self._options.commitment * torch.stack(distances).mean()
        if batch.labels is not None:
            loss = loss + self._options.labels * functional.cross_entropy(found.float(), batch.labels)
        return loss

    def _output_loss(self, found: Tensor, wanted: Tensor) -> Tensor:
        if self._options.output == "kl":
            own, others = found.float().log_softmax(1), wanted.float().log_softmax(1)
            return functional.kl_div(own, others, reduction="batchmean", log_target=True)
        return relative_error(found, wanted)


def _share_of_rate(step: int, options: TuneOptions) -> float:
    """Returns how much of its rate a step has."""
    if step < options.warm_up:
        return (step + 1) / (options.warm_up + 1)
    done = (step - options.warm_up) / max(1, options.steps - options.warm_up)
    return 0.5 + 0.5 * math.cos(math.pi * done)


def _rate(parameter: nn.Parameter, options: TuneOptions) -> float:
    if options.relative_rate is None:
        return options.rate
    return options.relative_rate * max(float(parameter.detach().square().mean().sqrt()), LEAST_SIZE)


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Returns |found - wanted|^2 / |wanted|^2."""
    found, wanted = found.float(), wanted.float()
    return (found - wanted).square().sum() / wanted.square().sum().clamp_min(1e-12)


class _Snapshot:
    """A model's parameters, settings and hashes."""

    def __init__(self, model: nn.Module) -> None:
        self._state, self._reuse = copy.deepcopy(model.state_dict()), reuse_state(model)

    def restore(self, model: nn.Module) -> None:
        for name, layer in convolutions(model).items():
            if f"{name}.bias" not in self._state:
                layer.bias = None  # reconstruction or a folded normalisation gave it one
        model.load_state_dict(self._state)
        load_reuse_state(model, self._reuse)


def _run(model: nn.Module, layers: Mapping[str, ReuseConv2d], x: Tensor) -> tuple[Any, dict[str, Tensor]]:
    """Returns a model's output, and the outputs of the modules with the names of `layers`."""
    features: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, y, name=name: features.__setitem__(name, y)
        )
        for name in layers
    ]
    try:
        return model(x), features
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> list[Tensor]:
    """The floating point tensors in a model's output, in order."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        return [tensor for value in output.values() for tensor in _tensors(value)]
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [tensor for value in output for tensor in _tensors(value)]
    return []
