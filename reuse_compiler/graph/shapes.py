"""Shapes of a model's inputs and, by ONNX shape inference on a copy without weights, of all its tensors."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import onnx
from onnx import shape_inference

from reuse_compiler.errors import ConfigError
from reuse_compiler.graph.structure import STANDARD_DOMAINS, ScopePath, given_inputs, located_graphs, subgraphs_of
from reuse_compiler.graph.tensors import copy_without_data

logger = logging.getLogger(__name__)

T = TypeVar("T")
Shape = tuple[int | None, ...]
"""Dimensions of a tensor; None for one that is not known before run time."""

MADE_UP_SYMBOL = "unk__"
"""How the names begin that ONNX's shape inference gives to dimensions it does not know."""
DEFAULT_BATCH = 1
DEFAULT_SIZE = 224
"""Sizes assumed for dynamic dimensions that the user does not give: one ImageNet image."""
SMALL_TENSOR_BYTES = 4096
"""Constants up to this size keep their data for shape inference: they may be shapes, axes or sizes."""


def bind_shapes(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], *, warn: bool = True
) -> dict[str, tuple[int, ...]]:
    """Returns a concrete shape for each tensor input that declares one or is given one.

    Dynamic dimensions come from `shapes`, else from an equally named dimension that is known, else they are assumed: 1
    for the first dimension, 224 for others, with a warning that names them. Names are hints: `shapes` may give
    equally named dimensions different sizes, as onnxruntime takes them. Raises ConfigError for a shape that fits no
    input.
    """
    values = {value.name: value for value in given_inputs(model.graph) if value.type.HasField("tensor_type")}
    symbols: dict[str, int] = {}
    for name, given in shapes.items():
        if name not in values:
            raise ConfigError(f"--shape {name}: the model has no such input; its inputs are {_names(values)}")
        _check_given(values[name], given)
        for dim, known in zip(values[name].type.tensor_type.shape.dim, given, strict=False):
            symbols.setdefault(dim.dim_param, known)
    bound: dict[str, tuple[int, ...]] = {}
    assumed = []
    for name, value in values.items():
        if name in shapes:
            bound[name] = tuple(shapes[name])
            continue
        if not _has_shape(value):
            continue
        sizes = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            size = _known_size(dim, symbols)
            if size is None:
                size = DEFAULT_BATCH if axis == 0 else DEFAULT_SIZE
                symbols.setdefault(dim.dim_param, size)
                assumed.append(f"{name}[{axis}]{f' ({dim.dim_param})' if dim.dim_param else ''} = {size}")
            sizes.append(size)
        bound[name] = tuple(sizes)
    if assumed and warn:
        example = next(name for name in bound if name not in shapes)
        logger.warning(
            "dynamic dimensions are assumed: %s; give the sizes you use, for example --shape %s:%s",
            ", ".join(assumed),
            example,
            ",".join(map(str, bound[example])),
        )
    return bound


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"))


def _names(values: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in values) or "none"


def _check_given(value: onnx.ValueInfoProto, given: tuple[int, ...]) -> None:
    """Raises ConfigError for a `--shape` that the model's declaration of the input excludes."""
    dims = value.type.tensor_type.shape.dim
    if _has_shape(value) and len(given) != len(dims):
        raise ConfigError(f"--shape {value.name}: {len(given)} dimensions given, the model's input has {len(dims)}")
    for axis, size in enumerate(given):
        if size < 1:
            raise ConfigError(f"--shape {value.name}: dimension {axis} is {size}; give sizes of at least 1")
        fixed = _known_size(dims[axis], {}) if _has_shape(value) else None
        if fixed is not None and fixed != size:
            raise ConfigError(f"--shape {value.name}: dimension {axis} is {size}, but the model fixes it at {fixed}")


def _known_size(dim: onnx.TensorShapeProto.Dimension, symbols: Mapping[str, int]) -> int | None:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return symbols.get(dim.dim_param) if dim.dim_param else None


@dataclass(frozen=True)
class ShapeTable:
    """Inferred shapes and element types of tensors by the graph that defines them."""

    scopes: Mapping[ScopePath, Mapping[str, Shape]]
    elements: Mapping[ScopePath, Mapping[str, int]]

    def of(self, path: ScopePath, name: str) -> Shape | None:
        """Returns the shape of `name` as seen from the graph at `path`, or None if its rank is not known."""
        return _visible(self.scopes, path, name)

    def element_of(self, path: ScopePath, name: str) -> int | None:
        """Returns the element type of `name` as seen from the graph at `path`, or None if it is not known."""
        return _visible(self.elements, path, name)


def _visible(scopes: Mapping[ScopePath, Mapping[str, T]], path: ScopePath, name: str) -> T | None:
    """Returns what is known of `name`, as seen from the graph at `path`."""
    for depth in range(len(path), -1, -2):
        known = scopes.get(path[:depth], {})
        if name in known:
            return known[name]
    return None


def tensor_shapes(model: onnx.ModelProto, bound: Mapping[str, tuple[int, ...]]) -> dict[str, Shape]:
    """Returns the shapes of the main graph's tensors when its inputs have the shapes `bound`."""
    return dict(infer_shapes(model, bound).scopes[()])


def infer_shapes(model: onnx.ModelProto, bound: Mapping[str, tuple[int, ...]]) -> ShapeTable:
    """Returns the shapes of all tensors, those of If/Loop/Scan bodies too, when the inputs have the shapes `bound`."""
    scopes: dict[ScopePath, dict[str, Shape]] = {}
    elements: dict[ScopePath, dict[str, int]] = {}
    for path, graph in located_graphs(_inferred(model, bound).graph):
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for value in [*graph.input, *graph.value_info, *graph.output]:
            if value.type.tensor_type.elem_type:
                types[value.name] = value.type.tensor_type.elem_type
            if _has_shape(value):
                dims = value.type.tensor_type.shape.dim
                shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
        scopes[path], elements[path] = shapes, types
    return ShapeTable(scopes, elements)


def infer_declarations(model: onnx.ModelProto) -> dict[ScopePath, dict[str, onnx.ValueInfoProto]]:
    """Returns type and shape of computed tensors by the graph that computes them, as a file may declare them.

    Symbolic dimensions are those of the model; the names that inference makes up for others could be taken for equal
    sizes, so that such dimensions are left open.
    """
    found: dict[ScopePath, dict[str, onnx.ValueInfoProto]] = {}
    for path, graph in located_graphs(_inferred(model, {}, warn=False).graph):
        declared = (*graph.input, *graph.value_info, *graph.output)
        found[path] = {value.name: value for value in declared if value.type.HasField("tensor_type")}
        for value in found[path].values():
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param.startswith(MADE_UP_SYMBOL):
                    dim.ClearField("dim_param")
    return found


def infer_values(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Returns type and shape of the main graph's tensors by name, symbolic dimensions as the model has them.

    Initializers have theirs; what inference cannot follow is as declared, or missing.
    """
    graph = _inferred(model, {}).graph
    values = {
        tensor.name: onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
    }
    declared = [*graph.input, *graph.value_info, *graph.output]
    return values | {value.name: value for value in declared if value.HasField("type")}


def _inferred(model: onnx.ModelProto, bound: Mapping[str, tuple[int, ...]], *, warn: bool = True) -> onnx.ModelProto:
    """Returns a copy without weights after shape inference; as far as that came where it fails."""
    copy = copy_without_data(model, SMALL_TENSOR_BYTES)
    symbols = _bind_inputs(copy.graph, bound)
    _forget_shapes(copy.graph, symbols, main=True)
    try:
        return shape_inference.infer_shapes(copy, strict_mode=False, data_prop=True)
    except Exception as error:  # the C++ inference raises bare RuntimeErrors and its own InferenceError
        if warn:
            logger.warning("shape inference failed (%s); convolutions of unknown input size stay dense", error)
    return copy


def _bind_inputs(graph: onnx.GraphProto, bound: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Writes the bound sizes into the inputs of a copy; returns the values of its symbolic dimensions that have one."""
    symbols: dict[str, set[int]] = defaultdict(set)
    for value in graph.input:
        if value.name not in bound:
            continue
        shape, sizes = value.type.tensor_type.shape, bound[value.name]
        for dim, size in zip(shape.dim, sizes, strict=False):
            symbols[dim.dim_param].add(size)
        shape.CopyFrom(onnx.TensorShapeProto(dim=[onnx.TensorShapeProto.Dimension(dim_value=size) for size in sizes]))
    return {name: next(iter(sizes)) for name, sizes in symbols.items() if name and len(sizes) == 1}


def _forget_shapes(graph: onnx.GraphProto, symbols: Mapping[str, int], main: bool) -> None:
    """Drops declared shapes that the bound inputs may contradict.

    What non-standard operators compute is known only from declarations, so those stay, with symbols replaced.
    """
    standard = {name for node in graph.node if node.domain in STANDARD_DOMAINS for name in node.output}
    kept = [value for value in graph.value_info if value.name not in standard]
    for value in kept:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for value in graph.output:
        if main and value.name in standard and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for body in subgraphs_of(node):
            _forget_shapes(body, symbols, main=False)
