"""Replaces each chosen convolution (with its normalization and activation) by the operators of domain `ai.reuse`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from reuse_compiler.errors import ModelError
from reuse_compiler.graph.constants import Constant
from reuse_compiler.graph.edit import ModelEdit
from reuse_compiler.graph.names import Names
from reuse_compiler.graph.tensors import to_tensor
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.layer import (
    INTEGER_CONV_INPUTS,
    QLINEAR_CONV_INPUTS,
    ConvLayer,
    IntegerLayer,
    Prepared,
    QuantisedLayer,
)
from reuse_compiler.reuse.activation import NO_ACTIVATION
from reuse_compiler.reuse.config import DEFAULT_MEMORY, STREAM_MEMORY, Lowering
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.fitted import HASH_PARAMETERS
from reuse_compiler.reuse.geometry import FROM_PIXEL_MAJOR, TO_PIXEL_MAJOR
from reuse_compiler.reuse.plan import LayerPlan, Plan

DOMAIN = "ai.reuse"
DOMAIN_VERSION = 1
CLUSTERING = ("ReuseConv", "QLinearReuseConv", "ReuseConvInteger", "Cluster")
"""The operators that cluster."""
INPUTS = {
    "Hash": ["X", *HASH_PARAMETERS],
    "Cluster": ["X", "codes", "given"],
    "CentroidGemm": ["centroids", "counts", "W", "dense_weights"],
    "Gather": ["table", "ids", "X", "bias", "dense_bias"],
    "ReuseConv": ["X", "W", "bias", *HASH_PARAMETERS, "dense_weights", "dense_bias", "centroids"],
    "QLinearReuseConv": [*QLINEAR_CONV_INPUTS, *HASH_PARAMETERS, "centroids", "fitted_weights", "fitted_bias"],
    "ReuseConvInteger": [*INTEGER_CONV_INPUTS],
    "MaxPool": ["X"],
    "AveragePool": ["X"],
    "Redundancy": ["X"],
    "Hold": ["X"],
}
"""The inputs of every operator (docs/operators.md)."""
ONLY_SOME = {"Cluster": 1, "ReuseConv": 1, "QLinearReuseConv": len(HASH_PARAMETERS) + 3}
"""How many of the last inputs an operator has with scope static only, or with a hash."""
AXES_ARE_INPUTS_SINCE_OPSET = 13
"""From this opset on, Squeeze and Unsqueeze take their axes as an input."""
HEIGHT_AXIS = 2


@dataclass(frozen=True)
class Rewritten:
    """A model with reuse, and where things are in it."""

    model: onnx.ModelProto
    clustering: Mapping[str, str] = field(default_factory=dict)
    """By layer: the node that clusters its input, under whose name the statistics have its r_c."""
    pixel_major: Mapping[str, str] = field(default_factory=dict)
    """By tensor of the main graph of the original: the one that holds the same in the order NHWC."""


def lower_to_reuse(
    prepared: Prepared, plan: Plan, lowering: Lowering = "fused", *, dense_inputs: bool = False
) -> Rewritten:
    """Returns a copy of the model with the planned layers rewritten.

    Their Convs, normalizations and activations are gone and their results have the names they had. All other nodes stay
    byte for byte, in order; constants that only replaced nodes read are removed. `prepared` is not changed. With
    `dense_inputs`, nodes have the inputs dense_weights and dense_bias, too, which function bodies read. Raises
    ModelError for a model with a function of its own under the name of one of our operators.
    """
    _check_functions(prepared.model)
    names, edit = Names(prepared.model), ModelEdit(prepared.view)
    layers = {name: layer for name, layer in prepared.convolutions.items() if name in plan}
    for layer in layers.values():
        names.release_node(layer.proto.name)
    clustering = {}
    for name, layer in layers.items():
        builder = _Builder(layer, plan[name], names, prepared, dense_inputs)
        nodes, constants = builder.build(lowering)
        nodes[-1].doc_string = layer.proto.doc_string
        nodes[-1].metadata_props.extend(layer.proto.metadata_props)
        clustering[name] = next(node.name for node in nodes if node.op_type in CLUSTERING)
        # Where the last one stood: operands of a ConvInteger's Mul may be computed behind the ConvInteger.
        edit.replace(reversed(layer.taken_in), nodes, constants, builder.values)
    model = edit.result()
    if all(opset.domain != DOMAIN for opset in model.opset_import):
        model.opset_import.add(domain=DOMAIN, version=DOMAIN_VERSION)
    return Rewritten(model, clustering)


def _check_functions(model: onnx.ModelProto) -> None:
    """Raises ModelError where a function of the model's own would be called in place of one of our operators."""
    for function in model.functions:
        if function.domain == DOMAIN and not _is_ours(function):
            raise ModelError(
                f"the model has a function of its own named '{DOMAIN}.{function.name}', as an operator that "
                "reuse-compile writes: give the function another name or domain"
            )


def _is_ours(function: onnx.FunctionProto) -> bool:
    """Tells whether a function has the inputs of our operator of that name, but for the last ones."""
    given, ours = list(function.input), INPUTS.get(function.name)
    if ours is None:
        return True
    return len(given) >= len(ours) - ONLY_SOME.get(function.name, 0) and given == ours[: len(given)]


class _Builder:
    """Builds the replacement of one layer."""

    def __init__(self, layer: ConvLayer, plan: LayerPlan, names: Names, prepared: Prepared, dense_inputs: bool) -> None:
        self._layer, self._plan, self._names, self._opset = layer, plan, names, prepared.view.opset
        self._dense_inputs = dense_inputs
        self._settings, self._spec = plan.settings, plan.spec
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._declarations = prepared.declarations
        self.values: list[onnx.ValueInfoProto] = []
        """What the nodes compute: inference of other tools knows nothing of our operators."""

    def build(self, lowering: Lowering) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """Returns the new nodes, the last of which computes the layer's result, and the constants that they read."""
        source, target = self._layer.input, self._layer.output
        given: int = TensorProto.FLOAT
        taken = given
        if isinstance(self._layer, QuantisedLayer):
            taken, given = self._layer.types
        self._declare(target, given, self._dims(target, self._spec.out_channels))
        if self._spec.one_dimensional:
            flat_input, flat = (self._names.new_tensor(f"{self._layer.name}/{part}") for part in ("input", "result"))
            self._declare(flat_input, taken, self._dims(source, self._spec.in_channels, height=True))
            self._declare(flat, given, self._dims(target, self._spec.out_channels, height=True))
            self._change_height("Unsqueeze", source, flat_input)
            self._lower(lowering, flat_input, flat)
            self._change_height("Squeeze", flat, target)
        else:
            self._lower(lowering, source, target)
        return self._nodes, self._constants

    def _dims(self, tensor: str, channels: int, height: bool = False) -> list[int | str | None]:
        """Returns what is known of the dimensions of a tensor of the model; those of a 1-D one may get a height."""
        rank = 3 if self._spec.one_dimensional else 4
        known = self._known(tensor)
        dims = [getattr(dim, dim.WhichOneof("value") or "", None) for dim in known]
        if len(dims) != rank:
            dims = [None] * rank
        dims[1] = channels
        return [*dims[:HEIGHT_AXIS], 1, *dims[HEIGHT_AXIS:]] if height else dims

    def _known(self, tensor: str) -> list[onnx.TensorShapeProto.Dimension]:
        for scope in self._layer.ref.scope.outwards():
            value = self._declarations.get(scope.path, {}).get(tensor)
            if value is not None:
                return list(value.type.tensor_type.shape.dim)
        return []

    def _declare(self, tensor: str, element: int, dims: Sequence[int | str | None] | None) -> None:
        self.values.append(onnx.helper.make_tensor_value_info(tensor, element, dims))

    def _lower(self, lowering: Lowering, source: str, target: str) -> None:
        if isinstance(self._layer, QuantisedLayer):
            self._quantised(self._layer, source, target)
        else:
            (self._staged if lowering == "staged" else self._fused)(source, target)

    def _quantised(self, layer: QuantisedLayer, source: str, target: str) -> None:
        inputs = {name: self._given(name, constant) for name, constant in layer.constants.items()}
        weights, bias = self._lifted(layer.weight), "" if layer.bias is None else self._given("bias", layer.bias)
        inputs |= {**layer.fed, "x": source, "w": weights, "B": bias}
        if self._dense_inputs and not inputs["B"]:  # the function has it, and its operators take no absent one
            # Adding -0 changes nothing.
            none = np.full(self._spec.out_channels, -0.0, np.float32 if isinstance(layer, IntegerLayer) else np.int32)
            inputs["B"] = self._constant("bias", to_tensor(none, ""))
        attributes = {**self._cut_attributes(), "scope": self._settings.scope, **self._incremental()}
        if not FAMILIES[self._settings.family].lossless:
            attributes |= self._hash_attributes()
            inputs |= self._parameters()
        if self._plan.centroids is not None:
            attributes |= self._kept_tables()
            inputs |= {**self._centroids("centroids"), **self._fitted()}
        x = inputs["x"] = self._pixel_major("input", source, self._spec.in_channels, layer.types[0])
        result = self._pixel_major("result", target, self._spec.out_channels, layer.types[1])
        self._add("Transpose", f"{x}/transpose", [source], [x], {"perm": TO_PIXEL_MAJOR})
        self._node(layer.operator, layer.name, inputs, [result], attributes)
        self._add("Transpose", f"{target}/transpose", [result], [target], {"perm": FROM_PIXEL_MAJOR})

    def _fitted(self) -> dict[str, str]:
        """Adds the floats that were fitted to take the place of quantised weights and bias, if they were."""
        if self._plan.weights is None:
            return {}
        fitted = Constant(to_tensor(self._plan.weights.weight, ""), in_graph=False)
        weights = self._lifted(fitted, "fitted_weights")
        bias = self._constant("fitted_bias", to_tensor(self._plan.weights.bias, ""))
        return {"fitted_weights": weights, "fitted_bias": bias}

    def _pixel_major(self, what: str, tensor: str, channels: int, element: int) -> str:
        """Declares what a tensor becomes in the order NHWC; returns its name."""
        name = self._names.new_tensor(f"{self._layer.name}/pixel_major_{what}")
        dims = self._dims(tensor, channels, height=self._spec.one_dimensional)
        self._declare(name, element, [dims[axis] for axis in TO_PIXEL_MAJOR])
        return name

    def _fused(self, source: str, target: str) -> None:
        attributes = self._hash_attributes() | self._cluster_attributes() | self._cut_attributes()
        attributes |= self._activation_attributes() | self._table()
        weights, bias = self._weights(), self._bias()
        inputs = {"X": source, "W": weights, "bias": bias, **self._parameters()}
        inputs |= {"dense_weights": self._dense_weights(weights), "dense_bias": self._dense_bias(bias)}
        inputs |= self._centroids("centroids")
        self._node("ReuseConv", self._layer.name, inputs, [target], attributes)

    def _staged(self, source: str, target: str) -> None:
        name, cut = self._layer.name, self._cut_attributes()
        codes, ids, centroids, counts, table = (
            self._names.new_tensor(f"{name}/{part}") for part in ("codes", "ids", "centroids", "counts", "table")
        )
        # Of no shape: function bodies give these tensors others than the operators do.
        stages = {codes: TensorProto.INT64, ids: TensorProto.INT32, counts: TensorProto.INT32}
        for tensor in (codes, ids, centroids, counts, table):
            self._declare(tensor, stages.get(tensor, TensorProto.FLOAT), None)
        hashed = {"X": source, **self._parameters()}
        self._node("Hash", f"{name}/Hash", hashed, [codes], {**self._hash_attributes(), **cut})
        clustered = {"X": source, "codes": codes, **self._centroids("given")}
        cluster = self._cluster_attributes() | cut
        self._node("Cluster", f"{name}/Cluster", clustered, [ids, centroids, counts], cluster)
        weights, bias = self._weights(), self._bias()
        multiplied = {"centroids": centroids, "counts": counts, "W": weights}
        multiplied["dense_weights"] = self._dense_weights(weights)
        gemm = {"layout": self._settings.layout, "group": self._spec.group}
        self._node("CentroidGemm", f"{name}/CentroidGemm", multiplied, [table], gemm)
        added = {"table": table, "ids": ids, "X": source, "bias": bias, "dense_bias": self._dense_bias(bias)}
        self._node("Gather", f"{name}/Gather", added, [target], {**cut, **self._activation_attributes()})

    def _change_height(self, op: str, source: str, target: str) -> None:
        """Adds the Unsqueeze that gives a 1-D input a height of 1, or the Squeeze that takes it away again."""
        inputs, attributes = [source], {"axes": [HEIGHT_AXIS]}
        if self._opset >= AXES_ARE_INPUTS_SINCE_OPSET:
            inputs.append(self._constant("axes", to_tensor(np.array(attributes.pop("axes"), np.int64), "")))
        self._add(op, f"{self._layer.name}/{op}", inputs, [target], attributes)

    def _node(self, op: str, name: str, inputs: dict[str, str], outputs: list[str], attributes: dict[str, Any]) -> None:
        """Adds a node of ours; absent inputs may be ""."""
        known = INPUTS[op]
        count = len(known) - ONLY_SOME.get(op, 0) if self._dense_inputs else 0  # the function has them all
        count = max(count, *(index + 1 for index, what in enumerate(known) if inputs.get(what)))
        given = [inputs.get(what) or self._absent(what) for what in known[:count]]
        self._add(op, name, given, outputs, attributes, DOMAIN)

    def _add(
        self,
        op: str,
        name: str,
        inputs: list[str],
        outputs: list[str],
        attributes: dict[str, Any],
        domain: str | None = None,
    ) -> None:
        """Adds a node, whose attributes stay in order."""
        node = helper.make_node(op, inputs, outputs, self._names.new_node(name), domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)

    def _constant(self, what: str, tensor: onnx.TensorProto) -> str:
        """Adds a constant `<layer>/<what>` with the tensor's type, shape and data; returns its name."""
        own = deepcopy(tensor)
        own.name = self._names.new_tensor(f"{self._layer.name}/{what}")
        own.ClearField("doc_string")
        self._constants.append(own)
        return str(own.name)

    def _weights(self) -> str:
        if self._plan.weights is None:
            return self._lifted(self._layer.weight)
        return self._lifted(Constant(to_tensor(self._plan.weights.weight, "weights"), in_graph=False))

    def _lifted(self, constant: Constant, what: str = "weights") -> str:
        """Returns the name of weights with the height that a 1-D layer's lack."""
        if self._spec.one_dimensional:
            lifted = deepcopy(constant.tensor)
            lifted.dims.insert(HEIGHT_AXIS, 1)
            return self._constant(what, lifted)
        return self._given(what, constant)

    def _bias(self) -> str:
        bias = self._layer.bias
        if self._plan.weights is not None:
            bias = Constant(to_tensor(self._plan.weights.bias, "bias"), in_graph=False)
        return "" if bias is None else self._given("bias", bias)

    def _given(self, what: str, constant: Constant) -> str:
        """Returns the name of a constant of the model, which is added if the graph has none."""
        return str(constant.tensor.name) if constant.in_graph else self._constant(what, constant.tensor)

    def _dense_weights(self, weights: str) -> str:
        """Returns the original's weights [M, Ic/group, kh, kw], if wanted: the operator's own unless fitted."""
        if not self._dense_inputs:
            return ""
        if self._plan.weights is None:
            return weights
        return self._constant("dense_weights", to_tensor(self._layer.weights, ""))

    def _dense_bias(self, bias: str) -> str:
        """Returns the original's bias [M], if wanted; a function's Conv takes no absent one."""
        if not self._dense_inputs:
            return ""
        if bias and self._plan.weights is None:
            return bias
        return self._constant("dense_bias", to_tensor(self._layer.biases, ""))

    def _absent(self, what: str) -> str:
        """Adds the constant that stands for an absent input before a present one (docs/operators.md, Absent inputs)."""
        return self._constant(
            f"no_{what}", to_tensor(np.zeros(0, np.int32 if what in ("coordinates", "B") else np.float32), "")
        )

    def _parameters(self) -> dict[str, str]:
        """Adds the family's parameters as constants; returns their names by those of the inputs."""
        given = self._plan.parameters.items()
        return {name: self._constant(name, to_tensor(array, "")) for name, array in given if array is not None}

    def _centroids(self, name: str) -> dict[str, str]:
        """Adds the centroids of scope static as a constant, which goes to the input of this name."""
        centroids = self._plan.centroids
        return {} if centroids is None else {name: self._constant(name, to_tensor(centroids, ""))}

    def _cut_attributes(self) -> dict[str, Any]:
        settings = self._settings
        blocks = {"layout": settings.layout, "sub_vector_length": settings.sub_vector_length}
        return attributes_of(self._spec) | blocks

    def _hash_attributes(self) -> dict[str, Any]:
        return {"family": self._settings.family, "num_hashes": self._settings.num_hashes}

    def _cluster_attributes(self) -> dict[str, Any]:
        verify = {"verify": 1} if FAMILIES[self._settings.family].lossless else {}
        settings = self._settings
        bounded = settings.scope == "session" and settings.memory != DEFAULT_MEMORY
        memory = {"memory": settings.memory} if bounded else {}
        capacity = float(settings.capacity)
        return {"scope": settings.scope, "capacity": capacity, "metric": settings.metric, **verify, **memory}

    def _table(self) -> dict[str, Any]:
        table = {"table": "int8"} if self._settings.table == "int8" else {}
        return {**table, **self._kept_tables(), **self._incremental()}

    def _kept_tables(self) -> dict[str, Any]:
        return {} if self._plan.keep_tables else {"keep_tables": 0}

    def _incremental(self) -> dict[str, Any]:
        return {"incremental": 1, "memory": STREAM_MEMORY} if self._plan.incremental else {}

    def _activation_attributes(self) -> dict[str, Any]:
        node = self._layer.activation
        given = NO_ACTIVATION if node is None else node.function
        return {name: value for name, value in given._asdict().items() if value != getattr(NO_ACTIVATION, name)}
