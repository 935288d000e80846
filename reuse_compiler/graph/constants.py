"""Values that are the same in every run: initializers, Constant nodes, and what operators compute from them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator

from reuse_compiler.graph.shapes import ShapeTable
from reuse_compiler.graph.structure import STANDARD_DOMAINS
from reuse_compiler.graph.tensors import to_array, to_tensor
from reuse_compiler.graph.view import GraphView, NodeRef, Scope

OVERRIDABLE_SINCE_IR = 4
"""From this IR version on, an initializer that is also a graph input is only a default that callers may override."""
LARGEST = 2**28
"""Elements of a tensor that is computed to find a constant; protobuf holds 2 GB."""
CONSTANT_VALUES = ("value", "value_float", "value_floats", "value_int", "value_ints")
"""Attributes of a Constant node that are dense tensors of numbers."""
QUANTISED = ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")
NOT_CONSTANT = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


@dataclass(frozen=True)
class Constant:
    """A constant tensor. `in_graph`: `tensor.name` can be read where it was asked for; else it must be added first."""

    tensor: onnx.TensorProto
    in_graph: bool

    @property
    def array(self) -> npt.NDArray[Any]:
        """Its values, read anew each time: models may be larger than memory."""
        return to_array(self.tensor)


class NotConstantError(Exception):
    """Why a tensor is not constant, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class _Cause:
    """What makes a tensor, and all that is computed from it, no constant."""

    tensor: str
    reason: str

    def about(self, name: str) -> str:
        """Returns the end of the sentence that begins with the name of a tensor that is computed from it."""
        return self.reason if name == self.tensor else f"is computed from '{self.tensor}', which {self.reason}"


class ConstantFinder:
    """Finds and, where operators compute them, evaluates constants. Never changes the model.

    `inferred` has types and shapes of tensors, as far as they are known: a CastLike asks for no more of its second
    input, and what is too large is not computed. Every tensor is looked at once, however many are computed from it.
    """

    def __init__(self, view: GraphView, inferred: ShapeTable | None = None) -> None:
        self._view, self._inferred = view, inferred
        self._causes: dict[int, _Cause | None] = {}
        self._found: dict[int, Constant] = {}

    def find(self, tensor: gs.Tensor, scope: Scope) -> Constant:
        """Returns the constant that `tensor`, read by a node in `scope`, holds; raises NotConstantError."""
        cause = self._cause(tensor, scope)
        if cause is not None:
            raise NotConstantError(cause.about(tensor.name))
        if id(tensor) not in self._found:
            self._found[id(tensor)] = self._value(tensor, scope)
        return self._found[id(tensor)]

    def _cause(self, tensor: gs.Tensor, scope: Scope) -> _Cause | None:
        """Returns why `tensor` is not constant, or None; what it is computed from comes first, without recursion."""
        waiting, entered = [(tensor, scope)], set[int]()
        while waiting:
            each, scope = waiting[-1]
            key, producer = id(each), self._view.producer(each)
            if key not in self._causes:
                cause = self._own_cause(each, scope, producer)
                inputs = [] if cause or producer is None else self._reads(producer)
                if key not in entered:
                    entered.add(key)
                    unknown = [(t, producer.scope) for t in inputs if producer and id(t) not in self._causes]
                    if unknown:
                        waiting.extend(unknown)
                        continue
                circular = _Cause(each.name, "is computed from itself")
                causes = (self._causes.get(id(t), circular) for t in inputs)
                self._causes[key] = cause or next(filter(None, causes), None)
            waiting.pop()
        return self._causes[id(tensor)]

    def _own_cause(self, tensor: gs.Tensor, scope: Scope, producer: NodeRef | None) -> _Cause | None:
        """Returns why `tensor` is not constant whatever its producer reads."""
        reason = None
        if producer is None:
            if isinstance(found := self._initializer(tensor.name, scope), str):
                reason = found
        elif producer.proto.op_type in QUANTISED:
            reason = "is quantised: a DequantizeLinear computes it"
        elif producer.is_standard("Constant"):
            if not any(attribute.name in CONSTANT_VALUES for attribute in producer.proto.attribute):
                reason = "is a Constant node without a dense number value"
        elif (
            producer.proto.domain not in STANDARD_DOMAINS
            or producer.proto.op_type in NOT_CONSTANT
            or any(a.HasField("g") for a in producer.proto.attribute)
        ):
            reason = f"is computed at run time by a node of type {producer.proto.op_type}"
        return None if reason is None else _Cause(tensor.name, reason)

    def _reads(self, ref: NodeRef) -> list[gs.Tensor]:
        """Returns the inputs whose values a node needs."""
        inputs = ref.node.inputs[:1] if self._cast_type(ref) else ref.node.inputs
        return [tensor for tensor in inputs if not tensor.is_empty()]

    def _cast_type(self, ref: NodeRef) -> int | None:
        """Returns the element type that a CastLike casts to, where it is known; None for other nodes, too."""
        if self._inferred is None or not ref.is_standard("CastLike") or len(ref.node.inputs) != 2:
            return None
        return self._inferred.element_of(ref.scope.path, ref.node.inputs[1].name)

    def _initializer(self, name: str, scope: Scope) -> onnx.TensorProto | str:
        """Returns the initializer that a tensor is, or why it is none."""
        for outer in scope.outwards():
            if name in outer.sparse:
                return "is stored as a sparse tensor; store it dense"
            if name in outer.initializers:
                if name in outer.inputs and self._view.model.ir_version >= OVERRIDABLE_SINCE_IR:
                    return (
                        "is a graph input with a default value, which callers may override; "
                        "`python -m onnxruntime.tools.remove_initializer_from_input` makes it constant"
                    )
                return outer.initializers[name]
            if name in outer.inputs:
                break
        return "is fed at run time"

    def _value(self, tensor: gs.Tensor, scope: Scope) -> Constant:
        """Returns what a tensor holds that is constant."""
        producer = self._view.producer(tensor)
        while producer is not None and producer.is_standard("Identity") and (inputs := self._reads(producer)):
            tensor, scope = inputs[0], producer.scope
            producer = self._view.producer(tensor)
        if producer is None:
            initializer = self._initializer(tensor.name, scope)
            assert isinstance(initializer, onnx.TensorProto)
            return Constant(initializer, in_graph=True)
        if producer.is_standard("Constant"):
            return Constant(_constant_value(producer.proto, tensor.name), in_graph=True)
        return Constant(self._evaluate(tensor, producer), in_graph=False)

    def _evaluate(self, tensor: gs.Tensor, producer: NodeRef) -> onnx.TensorProto:
        """Computes a tensor with the reference implementation of ONNX."""
        nodes, leaves = self._collect(producer)
        if any(self._is_too_large(ref) for ref in nodes):
            cause = _Cause(tensor.name, f"is computed from constants, through a tensor of over {LARGEST} elements")
            self._causes[id(tensor)] = cause
            raise NotConstantError(cause.reason)
        graph = onnx.helper.make_graph(
            [self._evaluated(ref) for ref in nodes],
            "constants",
            [],
            [onnx.ValueInfoProto(name=tensor.name)],
            [to_tensor(to_array(leaf), leaf_name) for leaf_name, leaf in leaves.items()],
        )
        model = onnx.ModelProto(ir_version=self._view.model.ir_version, graph=graph)
        model.opset_import.extend(self._view.model.opset_import)
        try:
            (value,) = ReferenceEvaluator(model).run([tensor.name], {})
            return to_tensor(np.asarray(value), tensor.name)
        except Exception as error:  # operators of onnx.reference raise whatever NumPy does
            cause = _Cause(tensor.name, f"is computed from constants, but not by onnx's reference ({error})")
            self._causes[id(tensor)] = cause
            raise NotConstantError(cause.reason) from error

    def _collect(self, producer: NodeRef) -> tuple[list[NodeRef], dict[str, onnx.TensorProto]]:
        """Returns the nodes that compute a constant, each after those that it reads, and the constants they read."""
        nodes: dict[int, NodeRef] = {}
        leaves: dict[str, onnx.TensorProto] = {}
        waiting, entered = [producer], set[int]()
        while waiting:
            ref = waiting[-1]
            if id(ref) in entered:
                nodes[id(ref)] = waiting.pop()
                continue
            entered.add(id(ref))
            for tensor in self._reads(ref):
                before = self._view.producer(tensor)
                if id(tensor) in self._found:
                    leaves[tensor.name] = self._found[id(tensor)].tensor
                elif before is None:
                    leaves[tensor.name] = self._value(tensor, ref.scope).tensor
                elif id(before) not in entered:
                    waiting.append(before)
        return list(nodes.values()), leaves

    def _is_too_large(self, ref: NodeRef) -> bool:
        """Tells whether a node computes more than memory has: a few bytes can tell an Expand any size."""
        if self._inferred is None:
            return False
        shapes = (self._inferred.of(ref.scope.path, tensor.name) for tensor in ref.node.outputs)
        return any(prod(size or 1 for size in shape) > LARGEST for shape in shapes if shape is not None)

    def _evaluated(self, ref: NodeRef) -> onnx.NodeProto:
        """Returns the node to evaluate in place of `ref`: a CastLike of a known type is a Cast."""
        element = self._cast_type(ref)
        if element is None:
            return ref.proto
        cast = onnx.helper.make_node("Cast", ref.proto.input[:1], ref.proto.output, to=element)
        cast.attribute.extend(ref.proto.attribute)
        return cast


def _constant_value(node: onnx.NodeProto, name: str) -> onnx.TensorProto:
    """Returns the value of a Constant node, which is a dense tensor of numbers, under the name of its output."""
    attribute = next(attribute for attribute in node.attribute if attribute.name in CONSTANT_VALUES)
    if attribute.name == "value":
        tensor: onnx.TensorProto = deepcopy(attribute.t)
        tensor.name = name
        return tensor
    value = onnx.helper.get_attribute_value(attribute)
    return to_tensor(np.array(value, np.float32 if "float" in attribute.name else np.int64), name)
