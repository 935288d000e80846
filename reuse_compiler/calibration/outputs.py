"""What a model declares about its outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

Outputs = dict[str, NDArray[Any]]
"""Arrays by output name: what one run of a model gives."""


class OutputInfo(NamedTuple):
    """One output of a model; a dimension is its size, or its name where it is dynamic (None: unknown rank)."""

    name: str
    dims: tuple[int | str, ...] | None
    dtype: np.dtype[Any]

    @property
    def is_float(self) -> bool:
        """Whether it holds floating point numbers (V: bfloat16)."""
        return self.dtype.kind in "fV"

    @property
    def has_classes(self) -> bool:
        """Whether it is `[N, classes]`, with more than one class (further axes of length 1 do not count)."""
        dims = self.dims
        return self.is_float and dims is not None and len(dims) >= 2 and dims[1] != 1 and set(dims[2:]) <= {1}

    def __str__(self) -> str:
        dims = "?" if self.dims is None else ", ".join(str(dim) or "?" for dim in self.dims)
        return f"'{self.name}' {self.dtype} [{dims}]"


def model_outputs(model: onnx.ModelProto) -> list[OutputInfo]:
    """Returns the outputs that are tensors of numbers."""
    outputs = []
    for value in model.graph.output:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or tensor.elem_type == onnx.TensorProto.STRING:
            continue
        dims = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim)
        known = dims if tensor.HasField("shape") else None
        outputs.append(OutputInfo(value.name, known, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    return outputs
