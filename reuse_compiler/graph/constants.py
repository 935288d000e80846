"""Values that are the same in every run: initializers, Constant nodes, and what operators compute from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator

from reuse_compiler.graph.structure import STANDARD_DOMAINS
from reuse_compiler.graph.tensors import to_array, to_tensor
from reuse_compiler.graph.view import GraphView, NodeRef, Scope

OVERRIDABLE_SINCE_IR = 4
"""From this IR version on, an initializer that is also a graph input is only a default that callers may override."""
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


class ConstantFinder:
    """Finds and, where operators compute them, evaluates constants. Never changes the model."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._found: dict[int, Constant | NotConstantError] = {}

    def find(self, tensor: gs.Tensor, scope: Scope) -> Constant:
        """Returns the constant that `tensor`, read by a node in `scope`, holds; raises NotConstantError."""
        found = self._found.get(id(tensor))
        if found is None:
            try:
                found = self._find(tensor, scope)
            except NotConstantError as error:
                found = error
            self._found[id(tensor)] = found
        if isinstance(found, NotConstantError):
            raise found
        return found

    def _find(self, tensor: gs.Tensor, scope: Scope) -> Constant:
        producer = self._view.producer(tensor)
        if producer is None:
            return self._initializer(tensor.name, scope)
        standard = producer.proto.domain in STANDARD_DOMAINS
        if standard and producer.proto.op_type == "Identity":
            return self.find(producer.node.inputs[0], producer.scope)
        if standard and producer.proto.op_type == "Constant":
            return Constant(_constant_value(producer.proto, tensor.name), in_graph=True)
        return Constant(self._evaluate(tensor.name, producer), in_graph=False)

    def _initializer(self, name: str, scope: Scope) -> Constant:
        for outer in scope.outwards():
            if name in outer.sparse:
                raise NotConstantError("is stored as a sparse tensor; store it dense")
            if name in outer.initializers:
                if name in outer.inputs and self._view.model.ir_version >= OVERRIDABLE_SINCE_IR:
                    raise NotConstantError(
                        "is a graph input with a default value, which callers may override; "
                        "`python -m onnxruntime.tools.remove_initializer_from_input` makes it constant"
                    )
                return Constant(outer.initializers[name], in_graph=True)
            if name in outer.inputs:
                break
        raise NotConstantError("is fed at run time")

    def _evaluate(self, name: str, producer: NodeRef) -> onnx.TensorProto:
        """Computes tensor `name` with the reference implementation of ONNX."""
        nodes: dict[int, NodeRef] = {}
        leaves: dict[str, onnx.TensorProto] = {}
        self._collect(producer, nodes, leaves)
        ordered = [ref.proto for ref in self._view.nodes() if id(ref) in nodes]
        graph = onnx.helper.make_graph(
            ordered,
            "constants",
            [],
            [onnx.ValueInfoProto(name=name)],
            [to_tensor(to_array(leaf), leaf_name) for leaf_name, leaf in leaves.items()],
        )
        model = onnx.ModelProto(ir_version=self._view.model.ir_version, graph=graph)
        model.opset_import.extend(self._view.model.opset_import)
        try:
            (value,) = ReferenceEvaluator(model).run([name], {})
        except Exception as error:  # operators of onnx.reference raise whatever NumPy does
            raise NotConstantError(f"is computed from constants, but not by onnx's reference ({error})") from error
        return to_tensor(np.asarray(value), name)

    def _collect(self, ref: NodeRef, nodes: dict[int, NodeRef], leaves: dict[str, onnx.TensorProto]) -> None:
        """Gathers the nodes that compute a constant, and the constants they start from."""
        if id(ref) in nodes:
            return
        if ref.proto.op_type in QUANTISED:
            raise NotConstantError("is quantised: a DequantizeLinear computes it")
        standard = ref.proto.domain in STANDARD_DOMAINS
        if not standard or ref.proto.op_type in NOT_CONSTANT or any(a.HasField("g") for a in ref.proto.attribute):
            raise NotConstantError(f"is computed at run time by a node of type {ref.proto.op_type}")
        nodes[id(ref)] = ref
        for tensor in ref.node.inputs:
            if tensor.is_empty():
                continue
            producer = self._view.producer(tensor)
            if producer is None:
                leaves[tensor.name] = self._initializer(tensor.name, ref.scope).tensor
            else:
                self._collect(producer, nodes, leaves)


def _constant_value(node: onnx.NodeProto, name: str) -> onnx.TensorProto:
    """Returns the value of a Constant node under the name of its output."""
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = name
            return tensor
        if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            value = onnx.helper.get_attribute_value(attribute)
            return to_tensor(np.array(value, np.float32 if "float" in attribute.name else np.int64), name)
    raise NotConstantError("is a Constant node without a dense number value")
