"""reuse-compiler: deep reuse of repeated neuron vectors in convolutional networks that plain ONNX Runtime runs.

`compile` makes models with reuse (the command is `reuse-compile`), the rest runs them (docs/api.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reuse_compiler._version import VERSION as __version__

if TYPE_CHECKING:
    from reuse_compiler.compiled import CompiledModel, compile
    from reuse_compiler.environment import Environment, env
    from reuse_compiler.runtime import (
        NodeStatistics,
        get_library_path,
        library_path,
        reset_clusters,
        reset_statistics,
        session,
        statistics,
    )

__all__ = [
    "CompiledModel",
    "Environment",
    "NodeStatistics",
    "__version__",
    "compile",
    "env",
    "get_library_path",
    "library_path",
    "reset_clusters",
    "reset_statistics",
    "session",
    "statistics",
]
_MODULES = {"CompiledModel": "compiled", "compile": "compiled", "Environment": "environment", "env": "environment"}
"""Where a name is found if not in `runtime`."""


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and only then: programs heed signals before anything that takes long."""
    if name in __all__:
        return getattr(importlib.import_module(f"reuse_compiler.{_MODULES.get(name, 'runtime')}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
