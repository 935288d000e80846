"""Running a model without changing anything of it, and seeing what goes through its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def watching(modules: Mapping[str, nn.Module], note: Callable[[str, Any, Any, Any], object]) -> Iterator[None]:
    """Within it, `note` is called with name, module, first input and output whenever one of the modules has run."""
    handles = [
        module.register_forward_hook(lambda module, inputs, y, name=name: note(name, module, inputs[0], y))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
