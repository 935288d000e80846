"""Running compiled models: where the operator library is, sessions with it, and what its nodes have counted.

Compiled models need nothing of this in production: `SessionOptions.register_custom_ops_library(library_path())` is all.
"""

from reuse_compiler.runtime.engine import import_onnxruntime
from reuse_compiler.runtime.library import get_library_path, has_cuda, library_path, library_version
from reuse_compiler.runtime.providers import Provider, ProviderName, current_provider, running_on
from reuse_compiler.runtime.sessions import register_others, session, with_libraries
from reuse_compiler.runtime.statistics import (
    NodeStatistics,
    StageSeconds,
    remaining_ratios,
    reset_clusters,
    reset_statistics,
    statistics,
)

__all__ = [
    "NodeStatistics",
    "Provider",
    "ProviderName",
    "StageSeconds",
    "current_provider",
    "get_library_path",
    "has_cuda",
    "import_onnxruntime",
    "library_path",
    "library_version",
    "register_others",
    "remaining_ratios",
    "reset_clusters",
    "reset_statistics",
    "running_on",
    "session",
    "statistics",
    "with_libraries",
]
