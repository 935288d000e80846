"""reuse-compiler: deep reuse of repeated neuron vectors in convolutional networks that plain ONNX Runtime runs.

The compiler is `reuse_compiler.compiler.compile_file` (command: `reuse-compile`); what is here runs compiled models.
"""

from importlib.metadata import PackageNotFoundError, version

from reuse_compiler.runtime import NodeStatistics, library_path, reset_statistics, session, statistics

try:
    __version__ = version("reuse-compiler")
except PackageNotFoundError:  # the source tree is on the path but was never installed
    __version__ = "0+source"

__all__ = ["NodeStatistics", "__version__", "library_path", "reset_statistics", "session", "statistics"]
