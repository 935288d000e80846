"""Running a model without changing anything of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it the model is in evaluation mode and nothing is recorded; then every module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def trying(model: nn.Module) -> Iterator[None]:
    """Within it the model stays in its mode and nothing is recorded; then buffers, as running means, are as before."""
    before = [(own, own.clone()) for own in model.buffers()]
    try:
        with torch.no_grad():
            yield
    finally:
        for own, values in before:
            own.copy_(values)
