"""reuse-compiler: deep reuse of repeated neuron vectors in convolutional networks that plain ONNX Runtime runs.

The compiler is `reuse_compiler.compiler.compile_file` (command: `reuse-compile`); what is here runs compiled models.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reuse_compiler._version import VERSION as __version__

if TYPE_CHECKING:
    from reuse_compiler.runtime import NodeStatistics, library_path, reset_statistics, session, statistics

__all__ = ["NodeStatistics", "__version__", "library_path", "reset_statistics", "session", "statistics"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and only then: programs heed signals before anything that takes long."""
    if name in __all__:
        return getattr(importlib.import_module("reuse_compiler.runtime"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
