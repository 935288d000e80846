"""What `models.train` does for training with reuse: strategy, refitted trees, operations, rows of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import typer
from torch import Tensor, nn

from models.training_log import Row
from reuse_compiler.reuse.config import FamilyName, LayerSettings, TableType, make_settings
from reuse_compiler.training.conversion import convert, dense, revert
from reuse_compiler.training.function import Gradient
from reuse_compiler.training.loss_trend import TrendOptions
from reuse_compiler.training.operations import OperationMeter
from reuse_compiler.training.refit import HashRefit
from reuse_compiler.training.strategies import Strategy
from reuse_compiler.training.strategy_of_model import Number, make_strategy

StrategyName = Literal["none", "1", "2", "3"]
NUMBERS: dict[str, Number] = {"1": 1, "2": 2, "3": 3}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReuseOptions:
    """What the command line says about reuse."""

    strategy: StrategyName
    family: FamilyName = "sign"
    layers: str | None = None
    settings: tuple[str, ...] = ()
    dense_last: bool = False
    trend: TrendOptions | None = None
    refit: int = 100
    gradient: Gradient = "averaged"
    table: TableType = "float"
    finest: str | None = None


class ReuseTraining:
    """A network with reuse, to be told of every training step."""

    def __init__(self, net: nn.Module, images: Tensor, labels: Tensor, options: ReuseOptions, seed: int) -> None:
        """`images` and `labels` are the batch on which candidates are compared; its size is the training's."""
        self._net, self._images, self._labels = net, images, labels
        conversion = convert(
            net,
            images,
            options.layers,
            family=options.family,
            table=options.table,
            finest=None if options.finest is None else _pair(options.finest, options.finest, "--finest"),
            gradient=options.gradient,
            seed=seed,
        )
        self.layers = conversion.layers
        middle = {name: own[len(own) // 2] for name, own in conversion.candidates.items()}
        number = NUMBERS[options.strategy]
        self.strategy: Strategy = make_strategy(
            number,
            net,
            conversion,
            trend=options.trend,
            settings=None if number == 2 else middle | _parse(options.settings, middle),
            dense_last=options.dense_last,
            samples=[images],
        )
        self._refit = HashRefit(self.layers, options.refit) if options.family == "learned" and options.refit else None
        first = next((name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)), None)
        self.meter = OperationMeter(self.layers, first)

    def step(self, loss: float) -> None:
        """Takes note of a training step."""
        if self._refit is not None:
            self._refit.step()
        self.strategy.step(loss, self._accuracy)

    def row(self, steps: int) -> Row:
        """Returns what the log shows of the last `steps` steps."""
        self.meter.add(steps)
        row: Row = {"stage": self.strategy.stage}
        for name, (remaining, known) in self.meter.by_layer.items():
            settings = self.layers[name].settings
            row |= {f"{name}.L": settings.sub_vector_length, f"{name}.H": settings.num_hashes}
            row |= {f"{name}.r_c": round(remaining, 5), f"{name}.R": round(known, 4)}
        return row

    def result(self) -> dict[str, Any]:
        """Returns what the log keeps of the whole training."""
        return {
            "strategy": type(self.strategy).__name__,
            "switches": [asdict(switch) for switch in self.strategy.switches],
            "operations_saved": self.meter.saved,
            "layers": {
                name: layer.settings.model_dump(by_alias=True) | {"reuse": layer.reuse}
                for name, layer in self.layers.items()
            },
        }

    def dense_accuracy(self, accuracy: Callable[[], float]) -> float:
        """Returns the accuracy of the trained weights without reuse."""
        with dense(self._net):
            return accuracy()

    def finish(self) -> None:
        """Makes the network a plain one."""
        if self._refit is not None:
            self._refit.close()
        revert(self._net)

    def _accuracy(self) -> float:
        training = self._net.training
        self._net.eval()
        with torch.no_grad():
            hits = (self._net(self._images).argmax(1) == self._labels).float().mean()
        self._net.train(training)
        return float(hits)


def _parse(texts: tuple[str, ...], known: dict[str, LayerSettings]) -> dict[str, LayerSettings]:
    """Returns settings given as LAYER=L,H."""
    found = {}
    for text in texts:
        layer, _, numbers = text.partition("=")
        if layer not in known:
            message = f"'{text}' must be LAYER=L,H with a layer of {', '.join(known)}"
            raise typer.BadParameter(message, param_hint="--setting")
        length, hashes = _pair(numbers, text, "--setting")
        values = known[layer].model_dump() | {"sub_vector_length": length, "num_hashes": hashes}
        found[layer] = make_settings(**values)
    return found


def _pair(numbers: str, given: str, option: str) -> tuple[int, int]:
    """Returns numbers given as L,H within the value `given` of an option."""
    length, _, hashes = numbers.partition(",")
    if not length.isdigit() or not hashes.isdigit():
        raise typer.BadParameter(f"'{given}': L,H must be two numbers, like 16,12", param_hint=option)
    return int(length), int(hashes)
