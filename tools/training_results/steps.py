"""Time of a whole training step of CifarNet, without reuse and with reuse in conv2."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models import datasets, train
from models.reuse_training import ReuseOptions, ReuseTraining
from tools.training_results.layers import Setting
from tools.training_results.results import Device, StepTime
from tools.training_results.timing import median_times

BATCH, BATCHES = 128, 4
WARM_UP, ROUNDS = 4, 12
LAYER = "conv2"
SETTINGS = [
    Setting("learned", "channel", 32, 9, "int8"),
    Setting("learned", "channel", 16, 12, "int8"),
    Setting("learned", "channel", 16, 12, "int8", "straight_through"),
    Setting("learned", "channel", 8, 11, "int8"),
    Setting("learned", "channel", 8, 11, "int8", "straight_through"),
]


def measure_steps(device: Device) -> list[StepTime]:
    """Returns the time of a step without reuse, then with each of SETTINGS; they take turns."""
    photos, classes = datasets.images("cifar10_train", BATCH * BATCHES)
    images, labels = train.normalised(photos).to(device), torch.from_numpy(classes).to(device)
    batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    steps = {"without reuse": _step(None, batches, device)}
    steps |= {str(setting): _step(setting, batches, device) for setting in SETTINGS}
    times = median_times(steps, ROUNDS, WARM_UP, device)
    return [StepTime(setting=what, ms=ms) for what, ms in times.items()]


def _step(setting: Setting | None, batches: Sequence[tuple[Tensor, Tensor]], device: Device) -> Callable[[], object]:
    """Returns a function that takes the next step of a network of its own."""
    torch.manual_seed(0)
    net = train.trainable("cifarnet", 0.2).to(device)
    if setting is not None:
        words = (f"{LAYER}={setting.length},{setting.hashes}",)
        options = ReuseOptions("1", "learned", LAYER, words, gradient=setting.gradient, table=setting.table)
        ReuseTraining(net, *batches[0], options, 0)
    net.train()
    optimizer, turns = torch.optim.SGD(net.parameters(), 0.05, 0.9), itertools.cycle(batches)
    return lambda: train.take_step(net, optimizer, *next(turns), "float32")
