"""Reading and writing ONNX models: files with their external data, shapes, scopes of names, constants.

A model in memory that `load_model` returned keeps its external tensors external, with *absolute* locations, so that it
does not depend on the folder it came from; `save_model` makes them relative again. Nothing here knows about reuse.
"""

from reuse_compiler.graph.load import load_model
from reuse_compiler.graph.save import save_model
from reuse_compiler.graph.shapes import bind_shapes, tensor_shapes

__all__ = ["bind_shapes", "load_model", "save_model", "tensor_shapes"]
