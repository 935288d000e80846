"""What a model declares about its inputs, and whether an array fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.errors import DataError
from reuse_compiler.graph.structure import given_inputs

MOST_AXES = 5
"""Of an array of which it is looked for the order of axes that fits."""
Feed = dict[str, NDArray[Any]]
"""Arrays by input name: what one run of the model takes."""


@dataclass(frozen=True)
class InputSpec:
    """One input of a model; a dimension is its size, or its name ("" if it has none) where it is dynamic."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str, ...] | None
    """None where the model leaves even the rank open."""

    @property
    def is_dynamic(self) -> bool:
        """Whether some size is known at run time only."""
        return self.dims is None or any(isinstance(dim, str) for dim in self.dims)

    def ranked(self, shapes: Mapping[str, Sequence[int]]) -> InputSpec:
        """Returns the same with the rank that `shapes` has for the input, where the model leaves it open."""
        if self.dims is not None or self.name not in shapes:
            return self
        return replace(self, dims=("",) * len(shapes[self.name]))

    def __str__(self) -> str:
        dims = "?" if self.dims is None else ", ".join(str(dim) or "?" for dim in self.dims)
        return f"'{self.name}' {self.dtype} [{dims}]"

    def accept(self, array: NDArray[Any], where: str) -> NDArray[Any]:
        """Returns the array of one run in the declared type, or raises DataError, naming its source `where`."""
        array = self._converted(array, where)
        if not self.fits(array.shape):
            orders = permutations(range(1, array.ndim)) if array.ndim <= MOST_AXES else ()
            right = ((0, *order) for order in orders if self.fits([array.shape[axis] for axis in (0, *order)]))
            advice = next((f": it would with its axes in the order {axes}" for axes in right), "")
            raise DataError(f"{where}: an array of shape {list(array.shape)} does not fit the input {self}{advice}")
        return array

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the input may have that shape."""
        return self.dims is None or (
            len(self.dims) == len(shape)
            and all(isinstance(dim, str) or dim == size for dim, size in zip(self.dims, shape, strict=True))
        )

    def _converted(self, array: NDArray[Any], where: str) -> NDArray[Any]:
        """Changes the width of integers and floats, never the kind: pixels in place of scaled floats are a mistake."""
        same_kind = array.dtype.kind == self.dtype.kind or {array.dtype.kind, self.dtype.kind} == {"i", "u"}
        strings = self.dtype.kind == "O" and array.dtype.kind in "US"
        if not (same_kind or strings):
            raise DataError(
                f"{where}: an array of type {array.dtype} does not fit the input {self}; {self._advice(array)}"
            )
        converted = array.astype(self.dtype, copy=False)
        if array.dtype.kind in "iu" and not np.array_equal(converted, array):
            raise DataError(f"{where}: some values do not fit the type of the input {self}")
        return converted

    def _advice(self, array: NDArray[Any]) -> str:
        """Returns what to do about an array of another kind than the input's."""
        if self.dtype.kind == "f" and array.dtype.kind in "iu":
            return (
                f"save what the model is run on, whose scale is not known here, as in array.astype('{self.dtype}') / "
                "255 for pixels of a model that takes 0 to 1"
            )
        return f"save what the model is run on, as in array.astype('{self.dtype}')"


def model_inputs(model: onnx.ModelProto) -> list[InputSpec]:
    """Returns the inputs that a run must be given, in order (initializers that are also inputs excluded)."""
    return list(map(_spec, given_inputs(model.graph)))


def check_names(given: Mapping[str, Any], specs: list[InputSpec], where: str) -> None:
    """Raises DataError unless `given` has exactly the inputs of the model."""
    names = {spec.name for spec in specs}
    missing, unknown = sorted(names - given.keys()), sorted(given.keys() - names)
    if missing:
        raise DataError(f"{where} has no array for the input '{missing[0]}'; it has {sorted(given)}")
    if unknown:
        raise DataError(f"{where} has an array '{unknown[0]}', but the model's inputs are {sorted(names)}")


def _spec(value: onnx.ValueInfoProto) -> InputSpec:
    if not value.type.HasField("tensor_type"):
        raise DataError(
            f"input '{value.name}' is not a tensor, so the model cannot be run here; "
            "reuse-compile --no-verify compiles it all the same"
        )
    tensor = value.type.tensor_type
    dims = tuple(_dim(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except KeyError as error:
        raise DataError(
            f"the elements of input '{value.name}' are of type {tensor.elem_type}, which ONNX does not have: "
            "the model is damaged, export it again"
        ) from error
    return InputSpec(value.name, dtype, dims)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param
