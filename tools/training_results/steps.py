"""Time of a whole training step of a network, without reuse and with reuse in all convolutions but the first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models import datasets, train
from models.reuse_training import ReuseOptions, ReuseTraining
from tools.training_results.layers import Setting, median_times
from tools.training_results.results import Device, StepTime

BATCH, BATCHES = 128, 4
WARM_UP, ROUNDS = 1, 7
LAYERS = {"cifarnet": ("conv2",), "cifar_vgg": ("conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2")}
SETTINGS = {
    "cifarnet": [
        Setting("learned", "channel", 32, 9, "int8"),
        Setting("learned", "channel", 16, 12, "int8", "straight_through"),
        Setting("learned", "channel", 8, 11, "int8"),
        Setting("learned", "channel", 8, 11, "int8", "straight_through"),
        Setting("learned", "channel", 8, 11, "int8", "int8"),
    ],
    "cifar_vgg": [
        Setting("learned", "channel", 16, 8, "int8"),
        Setting("learned", "channel", 16, 8, "int8", "straight_through"),
        Setting("learned", "channel", 16, 8, "int8", "int8"),
        Setting("learned", "channel", 8, 8, "int8", "straight_through"),
        Setting("learned", "channel", 8, 8, "int8", "int8"),
        Setting("learned", "channel", 8, 11, "int8", "int8"),
    ],
}


def measure_steps(device: Device) -> list[StepTime]:
    """Returns the time of a step without reuse, then with each of SETTINGS; they take turns."""
    photos, classes = datasets.images("cifar10_train", BATCH * BATCHES)
    images, labels = train.normalised(photos).to(device), torch.from_numpy(classes).to(device)
    batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    found = []
    for network, settings in SETTINGS.items():
        steps = {"without reuse": _step(network, None, batches, device)}
        steps |= {str(setting): _step(network, setting, batches, device) for setting in settings}
        times = median_times(steps, ROUNDS, WARM_UP, device)
        found += [StepTime(network=network, setting=what, ms=ms) for what, ms in times.items()]
    return found


def _step(
    network: str, setting: Setting | None, batches: Sequence[tuple[Tensor, Tensor]], device: Device
) -> Callable[[], object]:
    """Returns a function that takes the next step of a network of its own."""
    torch.manual_seed(0)
    net = train.trainable(network, 0.2).to(device)
    if setting is not None:
        words = tuple(f"{layer}={setting.length},{setting.hashes}" for layer in LAYERS[network])
        options = ReuseOptions(
            "1", "learned", "|".join(LAYERS[network]), words, gradient=setting.gradient, table=setting.table
        )
        ReuseTraining(net, *batches[0], options, 0)
    net.train()
    optimizer, turns = torch.optim.SGD(net.parameters(), 0.05, 0.9), itertools.cycle(batches)
    return lambda: train.take_step(net, optimizer, *next(turns), "float32")
