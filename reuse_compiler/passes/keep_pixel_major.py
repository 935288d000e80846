"""Keeps data pixel-major (NHWC) between reuse convolutions, where nothing else needs to see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from reuse_compiler.graph.constants import ConstantFinder, NotConstantError
from reuse_compiler.graph.edit import ModelEdit
from reuse_compiler.graph.names import Names
from reuse_compiler.graph.shapes import infer_declarations
from reuse_compiler.graph.structure import STANDARD_DOMAINS, graph_at
from reuse_compiler.graph.view import GraphView, NodeRef
from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.reuse.geometry import FROM_PIXEL_MAJOR, TO_PIXEL_MAJOR

UNARY = (
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish",
    "Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu",
)  # fmt: skip
"""Operators that treat each element of their first input alike; further inputs (Clip's limits) are scalars."""
BINARY = ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum")
"""Operators that treat each element of their inputs alike if these have one shape, or a single element."""
POOLS = ("MaxPool", "AveragePool")
POOL_ATTRIBUTES = ("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad")
"""Attributes that the pools of domain `ai.reuse` have in common with ONNX's."""
RANK = 4


def keep_pixel_major(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Returns the rewritten model with tensors pixel-major where pooling lies between reuse convolutions.

    With it come the tensors, by the name that each had in the main graph: the one that now holds the same, pixel-major.

    Such a tensor comes from a reuse convolution, and everything that reads it, through elementwise operators and
    pooling, ends in reuse convolutions of layout `channel`. It has a new name, so that no name means another tensor
    than in the original. Graph outputs stay as they are, and so do parts without pooling, where the order was
    measured to gain nothing (docs/performance.md).
    """
    view = GraphView(model)
    tensors = _PixelMajor(view).find()
    if not tensors:
        return model, {}
    names = Names(model)
    renamed = {id(tensor): names.new_tensor(f"{tensor.name}/nhwc") for tensor in tensors}
    edit = ModelEdit(view)
    for ref in view.nodes():
        if any(id(tensor) in renamed for tensor in (*ref.node.inputs, *ref.node.outputs)):
            edit.replace([ref], [_rewritten(ref, renamed)], [])
    result = edit.result()
    _declare(view, result, tensors, renamed)
    in_main = {id(tensor) for ref in view.nodes() if ref.scope.parent is None for tensor in ref.node.outputs}
    return result, {t.name: renamed[id(t)] for t in tensors if id(t) in in_main}


class _PixelMajor:
    """Finds the tensors that can be pixel-major: the largest set in which every producer and reader agrees."""

    def __init__(self, view: GraphView) -> None:
        self._view, self._constants = view, ConstantFinder(view)
        self._inside: dict[int, gs.Tensor] = {}

    def find(self) -> list[gs.Tensor]:
        """Returns the tensors that a pool connects with others, in graph order."""
        for ref in self._view.nodes():
            if ref.node.outputs and (_is_reuse_conv(ref) or _is_pool(ref) or self._is_elementwise(ref)):
                self._inside[id(ref.node.outputs[0])] = ref.node.outputs[0]
        waiting = list(self._inside.values())
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in self._inside and not self._agrees(tensor):
                del self._inside[id(tensor)]
                waiting.extend(self._neighbours(tensor))
        pooled = self._pooled()
        return [tensor for key, tensor in self._inside.items() if key in pooled]

    def _neighbours(self, tensor: gs.Tensor) -> Iterator[gs.Tensor]:
        """Yields the tensors that can only be pixel-major if `tensor` is, and those that a pool connects it with.

        A convolution can change the order, so that what it reads and what it computes are no neighbours.
        """
        producer = self._view.producer(tensor)
        nodes = [*self._view.consumers(tensor), *([] if producer is None else [producer])]
        for ref in nodes:
            if not _is_reuse_conv(ref):
                yield from (t for t in (*ref.node.inputs, *ref.node.outputs) if id(t) in self._inside)

    def _pooled(self) -> set[int]:
        """Returns the tensors of parts with a pool."""
        waiting = [t for ref in self._view.nodes() if _is_pool(ref) for t in (*ref.node.inputs, *ref.node.outputs)]
        pooled: set[int] = set()
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in self._inside and id(tensor) not in pooled:
                pooled.add(id(tensor))
                waiting.extend(self._neighbours(tensor))
        return pooled

    def _agrees(self, tensor: gs.Tensor) -> bool:
        """Tells whether producer and readers of `tensor` can do with it pixel-major, the other tensors being inside."""
        producer, readers = self._view.producer(tensor), self._view.consumers(tensor)
        if producer is None or not readers or self._view.is_output(tensor.name, producer.scope):
            return False
        if not _is_reuse_conv(producer) and not self._all_inside(producer.node.inputs, producer):
            return False
        return all(reader.scope is producer.scope and self._reads(reader, tensor) for reader in readers)

    def _reads(self, reader: NodeRef, tensor: gs.Tensor) -> bool:
        if _is_reuse_conv(reader):
            first, *others = reader.node.inputs
            is_channel = _attribute(reader.proto, "layout") == b"channel"
            return is_channel and first is tensor and all(other is not tensor for other in others)
        return id(reader.node.outputs[0]) in self._inside

    def _all_inside(self, tensors: Sequence[gs.Tensor], reader: NodeRef) -> bool:
        """Tells whether all `tensors` but scalars are inside, and there are some; what is inside is no scalar."""
        inside = {id(tensor): id(tensor) in self._inside for tensor in tensors}
        others = [tensor for tensor in tensors if not tensor.is_empty() and not inside[id(tensor)]]
        return any(inside.values()) and all(self._is_scalar(tensor, reader) for tensor in others)

    def _is_scalar(self, tensor: gs.Tensor, reader: NodeRef) -> bool:
        try:
            dims = self._constants.find(tensor, reader.scope).tensor.dims
        except NotConstantError:
            return False
        return len(dims) <= RANK and all(size == 1 for size in dims)

    def _is_elementwise(self, ref: NodeRef) -> bool:
        if ref.proto.domain not in STANDARD_DOMAINS:
            return False
        if ref.proto.op_type in UNARY:
            return True
        if ref.proto.op_type == "Dropout":  # nothing but a copy, unless told to train or asked for its mask
            return len(ref.proto.output) == 1 and len(ref.proto.input) < 3
        # Before opset 7 attributes told how to broadcast.
        return ref.proto.op_type in BINARY and not ref.proto.attribute


def _is_reuse_conv(ref: NodeRef) -> bool:
    return bool(ref.proto.domain == DOMAIN and ref.proto.op_type == "ReuseConv")


def _is_pool(ref: NodeRef) -> bool:
    """Tells whether the pool of domain `ai.reuse` computes what the node does."""
    node = ref.proto
    if node.domain not in STANDARD_DOMAINS or node.op_type not in POOLS or len(node.output) > 1:
        return False
    kernel, dilations, pads = (_attribute(node, name) or [] for name in ("kernel_shape", "dilations", "pads"))
    if len(kernel) != RANK - 2 or any(dilation != 1 for dilation in dilations):
        return False
    if any(pad < 0 or pad >= size for pad, size in zip(pads, [*kernel, *kernel], strict=False)):
        return False
    # What an average is divided by, where a window reaches beyond the padding, differs from version to version. Windows
    # do with ceil_mode, and with strides where the input may be smaller than the kernel.
    beyond = _attribute(node, "ceil_mode") or max(_attribute(node, "strides") or [1]) > 1
    return not (beyond and _attribute(node, "count_include_pad"))


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    """Returns the value of an attribute, or None."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)


def _rewritten(ref: NodeRef, renamed: dict[int, str]) -> onnx.NodeProto:
    """Returns the node on the renamed tensors; a convolution is told the order of its data, a pool is replaced."""
    node = deepcopy(ref.proto)
    for index, tensor in enumerate(ref.node.inputs):
        node.input[index] = renamed.get(id(tensor), node.input[index])
    for index, tensor in enumerate(ref.node.outputs):
        node.output[index] = renamed.get(id(tensor), node.output[index])
    if _is_reuse_conv(ref):
        if id(ref.node.inputs[0]) in renamed:
            node.attribute.append(helper.make_attribute("input_perm", FROM_PIXEL_MAJOR))
        if id(ref.node.outputs[0]) in renamed:
            node.attribute.append(helper.make_attribute("output_perm", TO_PIXEL_MAJOR))
    elif node.op_type in POOLS:
        kept = [attribute for attribute in node.attribute if attribute.name in POOL_ATTRIBUTES]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.domain = DOMAIN
    return node


def _declare(view: GraphView, result: onnx.ModelProto, tensors: list[gs.Tensor], renamed: dict[int, str]) -> None:
    """Declares the new tensors in `result` as the old ones are, or would be; the edit removed those declarations."""
    inferred = infer_declarations(view.model)
    declared = {id(scope): {value.name: value for value in scope.proto.value_info} for scope in view.scopes}
    for tensor in tensors:
        producer = view.producer(tensor)
        assert producer is not None
        scope = producer.scope
        old = declared[id(scope)].get(tensor.name) or inferred[scope.path].get(tensor.name)
        if old is None:
            continue
        new = graph_at(result, scope.path).value_info.add()
        new.CopyFrom(old)
        new.name = renamed[id(tensor)]
        dims = old.type.tensor_type.shape.dim
        if len(dims) == RANK:
            del new.type.tensor_type.shape.dim[:]
            new.type.tensor_type.shape.dim.extend(dims[axis] for axis in TO_PIXEL_MAJOR)
