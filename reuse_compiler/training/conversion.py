"""Replacing a model's convolutions by ones with reuse, and back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import FamilyName, LayerSettings, TableType
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from reuse_compiler.training.candidates import candidates
from reuse_compiler.training.evaluation import evaluating, watching
from reuse_compiler.training.function import Gradient
from reuse_compiler.training.layer import ReuseConv2d, is_fitted, refusal_of, until_fitted
from reuse_compiler.training.shapes import spec_of

LayerChoice = str | Collection[str] | Mapping[str, LayerSettings] | None
"""A regular expression searched in the names, the names themselves, settings by name, or all that can be converted."""


@dataclass(frozen=True)
class Conversion:
    """What became of a model's convolutions."""

    layers: dict[str, ReuseConv2d]
    """In the order of execution."""
    candidates: dict[str, list[LayerSettings]]
    """By layer, the settings of Policies 1 to 3 in their order."""
    dense: dict[str, str]
    """By convolution that stays as it is: why."""


def convert(
    model: nn.Module,
    example: Tensor,
    layers: LayerChoice = None,
    *,
    family: FamilyName = "sign",
    layout: Layout | None = None,
    table: TableType = "float",
    finest: tuple[int, int] | None = None,
    gradient: Gradient = "averaged",
    soft_hash: float | None = None,
    seed: int = 0,
) -> Conversion:
    """Replaces Conv2d by ReuseConv2d, in place; parameters stay the same objects.

    `example` is an input of the size and batch that training uses: the ranges of L and H depend on it. Layers begin
    with the first of their candidates (the largest L and smallest H: the most reuse), or with the settings that
    `layers` gives. Trees of family `learned` and centroids of scope `static` begin as those fitted to `example`.
    Without `layout` it is chosen by layer. A `table` of int8 makes the library's forward pass faster where vectors are
    short; backwards all is float32. Candidates end at {L, H} `finest`, or where Policies 1 and 2 do.
    Raises ConfigError for names that the model does not have and for settings that do not fit.
    """
    found = specs_of(model, example)
    wanted = _wanted(layers, list(convolutions(model)))
    result = Conversion({}, {}, {})
    first = next(iter(found), None)
    for name, module in convolutions(model).items():
        reason = _reason(name, module, wanted, found)
        if reason is not None:
            if isinstance(layers, Mapping | Collection) and not isinstance(layers, str) and name in layers:
                raise ConfigError(f"layer '{name}' cannot be converted: {reason}")
            result.dense[name] = reason
            continue
        own = candidates(found[name], name == first, family, layout, table, finest)
        settings = layers[name] if isinstance(layers, Mapping) else own[0]
        result.candidates[name] = own
        begin = until_fitted(settings)
        result.layers[name] = ReuseConv2d.of(module, begin, name, seed, gradient, soft_hash)
    _replace(model, {model.get_submodule(name): layer for name, layer in result.layers.items()})
    ordered = {name: result.layers[name] for name in found if name in result.layers}
    begun = {name: layers[name] if isinstance(layers, Mapping) else result.candidates[name][0] for name in ordered}
    fitted = {name: settings for name, settings in begun.items() if is_fitted(settings)}
    if fitted:
        from reuse_compiler.training.refit import fit_to

        fit_to(model, ordered, fitted, [example])
    return Conversion(ordered, {name: result.candidates[name] for name in ordered}, result.dense)


def revert(model: nn.Module) -> None:
    """Replaces every ReuseConv2d by a plain Conv2d with the same parameters, in place."""
    _replace(model, {module: module.to_conv() for module in model.modules() if isinstance(module, ReuseConv2d)})


def reuse_layers(model: nn.Module) -> dict[str, ReuseConv2d]:
    """Returns a model's layers with reuse by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ReuseConv2d)}


@contextmanager
def dense(model: nn.Module) -> Iterator[None]:
    """Within it, the model computes without reuse."""
    layers = [(layer, layer.reuse) for layer in reuse_layers(model).values()]
    for layer, _ in layers:
        layer.reuse = False
    try:
        yield
    finally:
        for layer, before in layers:
            layer.reuse = before


def specs_of(model: nn.Module, example: Tensor) -> dict[str, ConvSpec]:
    """Runs `example` through the model and returns its convolutions in the order of execution.

    Nothing of the model changes: it runs in evaluation mode, without gradients.
    """
    found: dict[str, ConvSpec] = {}

    def note(name: str, module: nn.Conv2d, x: Tensor, y: Tensor) -> None:
        if x.dim() == 4:
            found.setdefault(name, spec_of(module, x.shape))

    with watching(convolutions(model), note), evaluating(model):
        model(example)
    return found


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Returns a model's convolutions by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


def _wanted(layers: LayerChoice, names: list[str]) -> set[str]:
    if layers is None:
        return set(names)
    if isinstance(layers, str):
        return {name for name in names if re.search(layers, name)}
    unknown = set(layers) - set(names)
    if unknown:
        raise ConfigError(f"the model has no convolution {', '.join(sorted(unknown))}; it has {', '.join(names)}")
    return set(layers)


def _reason(name: str, module: nn.Conv2d, wanted: set[str], found: Mapping[str, ConvSpec]) -> str | None:
    if isinstance(module, ReuseConv2d):
        return "it has reuse already"
    if type(module) is not nn.Conv2d:
        return f"it is a {type(module).__name__}, not a plain Conv2d"
    if not name:
        return "it is the whole model: put it into a module, whose layer can be replaced"
    if name not in wanted:
        return "it was not asked for"
    if name not in found:
        return "the example's way through the model does not come by"
    return refusal_of(module)


def _replace(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replaces modules wherever they stand: one may be used in several places."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children leaves out what stands twice
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
