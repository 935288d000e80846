"""Time per step of ReuseConv2d forward and backward beside nn.Conv2d, layer by layer, on real inputs of a network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import builders, datasets, preprocessing
from reuse_compiler.reuse.config import TableType, make_settings
from reuse_compiler.training.function import Gradient
from reuse_compiler.training.layer import ReuseConv2d, until_fitted
from reuse_compiler.training.onnx_module import OnnxModule
from reuse_compiler.training.operations import training_cost
from reuse_compiler.training.refit import fit_layer, inputs_of
from reuse_compiler.training.shapes import spec_of
from reuse_compiler.verification.timing import interleave
from tools.training_results.results import Device, LayerTime

BATCH = 128
WARM_UP: dict[Device, int] = {"cpu": 0, "cuda": 3}
ROUNDS: dict[Device, int] = {"cpu": 5, "cuda": 30}


class Setting(NamedTuple):
    """How a layer is computed."""

    family: str
    layout: str
    length: int
    hashes: int
    table: TableType = "float"
    gradient: Gradient = "averaged"

    def __str__(self) -> str:
        words = [self.family, self.layout, f"L={self.length}", f"H={self.hashes}"]
        words += ["int8 tables"] * (self.table == "int8")
        words += {"averaged": [], "straight_through": ["straight through"], "int8": ["int8 deltas"]}[self.gradient]
        return ", ".join(words)


LAYERS: dict[str, dict[str, list[Setting]]] = {
    "cifarnet": {
        "conv1": [Setting("sign", "patch", 10, 12), Setting("learned", "patch", 25, 12)],
        "conv2": [
            Setting("sign", "channel", 32, 9),
            Setting("sign", "channel", 16, 12),
            Setting("learned", "channel", 16, 12, "int8"),
            Setting("learned", "channel", 8, 11),
            Setting("learned", "channel", 8, 11, "int8"),
            Setting("learned", "channel", 8, 11, "int8", "straight_through"),
            Setting("learned", "channel", 8, 11, "int8", "int8"),
            Setting("learned", "channel", 8, 13, "int8"),
            Setting("sign", "patch", 40, 12),
        ],
    },
    "cifar_vgg": {
        f"conv{layer}": [
            Setting("learned", "channel", 16, 8, "int8", "int8"),
            Setting("learned", "channel", 8, 8, "int8", "int8"),
        ]
        for layer in ("1_2", "2_1", "2_2", "3_1", "3_2")
    },
}


def measure_layers(device: Device) -> list[LayerTime]:
    """Measures all of LAYERS."""
    photos, _ = datasets.images("cifar10_train", BATCH)
    images = torch.from_numpy(preprocessing.CIFAR10(photos))
    found = []
    for network, layers in LAYERS.items():
        model = OnnxModule(builders.trained(network)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, settings in layers.items():
            conv = model.get_submodule(name)
            assert isinstance(conv, nn.Conv2d)
            (x,) = inputs_of(model, conv, [images.contiguous(memory_format=torch.channels_last)])
            found += [_measure(f"{network} {name}", conv, x, own, device) for own in settings]
    return found


def _measure(name: str, conv: nn.Conv2d, x: Tensor, setting: Setting, device: Device) -> LayerTime:
    settings = make_settings(
        family=setting.family, layout=setting.layout, L=setting.length, H=setting.hashes, table=setting.table
    )
    start = until_fitted(settings)
    layer = ReuseConv2d.of(conv, start, name, gradient=setting.gradient)
    fit_layer(layer, settings, [x])
    conv, layer, first = conv.to(device), layer.to(device), conv.in_channels == 3
    x = x.detach().to(device).requires_grad_(not first)
    delta = torch.randn_like(conv(x))
    wanted = [conv.weight] if first else [conv.weight, x]
    outputs = {"dense": conv(x), "reuse": layer(x), "dense weights": conv(x.detach()), "weights": layer(x.detach())}
    runs: dict[str, Callable[[], object]] = {
        "dense_forward_ms": lambda: conv(x),
        "dense_weight_ms": lambda: torch.autograd.grad(outputs["dense weights"], wanted[:1], delta, retain_graph=True),
        "dense_backward_ms": lambda: torch.autograd.grad(outputs["dense"], wanted, delta, retain_graph=True),
        "forward_ms": lambda: layer(x),
        "cluster_ms": lambda: layer.clusters_of(x),
        "weight_ms": lambda: torch.autograd.grad(outputs["weights"], wanted[:1], delta, retain_graph=True),
        "backward_ms": lambda: torch.autograd.grad(outputs["reuse"], wanted, delta, retain_graph=True),
    }
    times = median_times(runs, ROUNDS[device], WARM_UP[device], device)
    ratio = layer.counts.remaining_ratio
    needed = None if first else setting.gradient
    return LayerTime(
        layer=name,
        setting=str(setting),
        r_c=ratio,
        counted=training_cost(settings, spec_of(conv, x.shape), ratio, input_gradient=needed),
        **times,
    )


def median_times(
    runs: Mapping[str, Callable[[], object]], rounds: int, warm_up: int, device: Device
) -> dict[str, float]:
    """Returns the median milliseconds of each run.

    On the CPU that is processor time, which neighbours on the machine hardly change; on a GPU the time until the device
    has done all.
    """
    samples = interleave(runs, warm_up + rounds, clock=time.process_time if device == "cpu" else _device_clock)
    return {what: statistics.median(own[warm_up:]) for what, own in samples.items()}


def _device_clock() -> float:
    """Seconds, when the device has done everything so far."""
    torch.cuda.synchronize()
    return time.perf_counter()
