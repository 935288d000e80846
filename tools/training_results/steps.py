"""Time of a whole training step of CifarNet, without reuse and with reuse in conv2."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from models import datasets, train
from models.reuse_training import ReuseOptions, ReuseTraining
from tools.training_results.layers import Setting
from tools.training_results.results import StepTime

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


def measure_steps() -> list[StepTime]:
    """Returns the time of a step without reuse, then with each of SETTINGS; they take turns."""
    photos, classes = datasets.images("cifar10_train", BATCH * BATCHES)
    images = train.normalised(photos).split(BATCH)
    labels = torch.from_numpy(classes).split(BATCH)
    steps = {"without reuse": _step(None, images[0], labels[0])}
    steps |= {str(setting): _step(setting, images[0], labels[0]) for setting in SETTINGS}
    times: dict[str, list[float]] = {what: [] for what in steps}
    for index in range(WARM_UP + ROUNDS):
        for what, step in steps.items():
            before = time.process_time()
            step(images[index % BATCHES], labels[index % BATCHES])
            times[what].append((time.process_time() - before) * 1e3)
    return [StepTime(setting=what, ms=statistics.median(own[WARM_UP:])) for what, own in times.items()]


def _step(setting: Setting | None, images: Tensor, labels: Tensor) -> Callable[[Tensor, Tensor], object]:
    """Returns a function that takes one step of a network of its own."""
    torch.manual_seed(0)
    net = train.trainable("cifarnet", 0.2)
    if setting is not None:
        words = (f"{LAYER}={setting.length},{setting.hashes}",)
        options = ReuseOptions("1", "learned", LAYER, words, gradient=setting.gradient, table=setting.table)
        ReuseTraining(net, images, labels, options, 0)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9)
    return lambda x, y: train.take_step(net, optimizer, x, y, "float32")
