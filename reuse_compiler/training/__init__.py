"""The training companion: adaptive deep reuse in PyTorch (training paper), tuning, and export for the compiler.

Needs the extra `training`. PyTorch is imported when a name of this package is asked for first, so that the rest of
reuse-compiler, and the strategies' logic, work without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reuse_compiler.errors import LibraryError

if TYPE_CHECKING:
    from reuse_compiler.training.conversion import Conversion, convert, dense, revert
    from reuse_compiler.training.export import export_onnx
    from reuse_compiler.training.layer import ReuseConv2d
    from reuse_compiler.training.plan_tuning import tune_plan
    from reuse_compiler.training.refit import HashRefit
    from reuse_compiler.training.state import load_reuse_state, reuse_state
    from reuse_compiler.training.strategies import AdaptiveStrategy, ClusterReuseStrategy, FixedStrategy
    from reuse_compiler.training.strategy_of_model import make_strategy
    from reuse_compiler.training.tuning import TuneOptions, reconstruct_model, tune

_MODULES = {
    "conversion": ("Conversion", "convert", "dense", "revert"),
    "export": ("export_onnx",),
    "layer": ("ReuseConv2d",),
    "plan_tuning": ("tune_plan",),
    "refit": ("HashRefit",),
    "state": ("load_reuse_state", "reuse_state"),
    "strategies": ("AdaptiveStrategy", "ClusterReuseStrategy", "FixedStrategy"),
    "strategy_of_model": ("make_strategy",),
    "tuning": ("TuneOptions", "reconstruct_model", "tune"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AdaptiveStrategy",
    "ClusterReuseStrategy",
    "Conversion",
    "FixedStrategy",
    "HashRefit",
    "ReuseConv2d",
    "TuneOptions",
    "convert",
    "dense",
    "export_onnx",
    "load_reuse_state",
    "make_strategy",
    "reconstruct_model",
    "reuse_state",
    "revert",
    "tune",
    "tune_plan",
]


def __getattr__(name: str) -> Any:
    """Imports the module that has `name`; raises LibraryError, naming the extra, where PyTorch is missing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        raise LibraryError(
            "training needs PyTorch, which is not installed: pip install 'reuse-compiler[training]'"
        ) from error
    return getattr(module, name)
