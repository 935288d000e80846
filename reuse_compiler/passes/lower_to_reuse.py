"""Replaces each chosen convolution (with its normalization and activation) by the operators of domain `ai.reuse`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

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
ONLY_STATIC = {"Cluster": 1, "ReuseConv": 1, "QLinearReuseConv": len(HASH_PARAMETERS) + 3}
"""How many of the last inputs an operator has with scope static only."""
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
    return len(given) >= len(ours) - ONLY_STATIC.get(function.name, 0) and given == ours[: len(given)]


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
        if self._plan.centroids is not None:
            attributes |= {**self._hash_attributes(), **self._kept_tables()}
            inputs |= self._static_inputs(self._plan.centroids)
        inputs["x"] = self._pixel_major("input", source, self._spec.in_channels, layer.types[0])
        result = self._pixel_major("result", target, self._spec.out_channels, layer.types[1])
        self._transpose(source, inputs["x"], TO_PIXEL_MAJOR)
        in_order = [inputs.get(name, "") for name in INPUTS[layer.operator]]
        self._node(layer.operator, "", in_order, [result], attributes)
        self._transpose(result, target, FROM_PIXEL_MAJOR)

    def _static_inputs(self, centroids: npt.NDArray[np.float32]) -> dict[str, str]:
        """Adds what scope static has of bytes, too; returns the names by those of the inputs."""
        names = dict(zip(HASH_PARAMETERS, self._parameters(), strict=False))
        names["centroids"] = self._constant("centroids", to_tensor(centroids, ""))
        if self._plan.weights is not None:
            fitted = Constant(to_tensor(self._plan.weights.weight, ""), in_graph=False)
            names["fitted_weights"] = self._lifted(fitted, "fitted_weights")
            names["fitted_bias"] = self._constant("fitted_bias", to_tensor(self._plan.weights.bias, ""))
        return names

    def _pixel_major(self, what: str, tensor: str, channels: int, element: int) -> str:
        """Declares what a tensor becomes in the order NHWC; returns its name."""
        name = self._names.new_tensor(f"{self._layer.name}/pixel_major_{what}")
        dims = self._dims(tensor, channels, height=self._spec.one_dimensional)
        self._declare(name, element, [dims[axis] for axis in TO_PIXEL_MAJOR])
        return name

    def _transpose(self, source: str, target: str, perm: tuple[int, ...]) -> None:
        node = helper.make_node("Transpose", [source], [target], self._names.new_node(f"{target}/transpose"), perm=perm)
        self._nodes.append(node)

    def _fused(self, source: str, target: str) -> None:
        attributes = {**self._hash_attributes(), **self._cluster_attributes(), **self._cut_attributes()}
        weights, bias = self._weights(), self._bias()
        inputs = [source, weights, bias, *self._parameters()]
        if self._dense_inputs:
            inputs += [""] * (INPUTS["ReuseConv"].index("dense_weights") - len(inputs))
            inputs += [self._dense_weights(weights), self._dense_bias(bias)]
        inputs = self._with_centroids("ReuseConv", inputs)
        self._node("ReuseConv", "", inputs, [target], {**attributes, **self._activation_attributes(), **self._table()})

    def _staged(self, source: str, target: str) -> None:
        name, cut = self._layer.name, self._cut_attributes()
        codes, ids, centroids, counts, table = (
            self._names.new_tensor(f"{name}/{part}") for part in ("codes", "ids", "centroids", "counts", "table")
        )
        # Of no shape: function bodies give these tensors others than the operators do.
        stages = {codes: TensorProto.INT64, ids: TensorProto.INT32, counts: TensorProto.INT32}
        for tensor in (codes, ids, centroids, counts, table):
            self._declare(tensor, stages.get(tensor, TensorProto.FLOAT), None)
        self._node("Hash", "Hash", [source, *self._parameters()], [codes], {**self._hash_attributes(), **cut})
        cluster = {**self._cluster_attributes(), **cut}
        given = self._with_centroids("Cluster", [source, codes])
        self._node("Cluster", "Cluster", given, [ids, centroids, counts], cluster)
        gemm = {"layout": self._settings.layout, "group": self._spec.group}
        weights, bias = self._weights(), self._bias()
        dense_weights = [self._dense_weights(weights)] if self._dense_inputs else []
        self._node("CentroidGemm", "CentroidGemm", [centroids, counts, weights, *dense_weights], [table], gemm)
        gather = {**cut, **self._activation_attributes()}
        dense_bias = [self._dense_bias(bias)] if self._dense_inputs else []
        self._node("Gather", "Gather", [table, ids, source, bias, *dense_bias], [target], gather)

    def _change_height(self, op: str, source: str, target: str) -> None:
        """Adds the Unsqueeze that gives a 1-D input a height of 1, or the Squeeze that takes it away again."""
        if self._opset >= AXES_ARE_INPUTS_SINCE_OPSET:
            axes = self._constant("axes", to_tensor(np.array([HEIGHT_AXIS], np.int64), ""))
            self._node(op, op, [source, axes], [target], {}, domain=None)
        else:
            self._node(op, op, [source], [target], {"axes": [HEIGHT_AXIS]}, domain=None)

    def _node(
        self,
        op: str,
        suffix: str,
        inputs: list[str],
        outputs: list[str],
        attributes: dict[str, Any],
        domain: str | None = DOMAIN,
    ) -> None:
        """Adds a node `<layer>/<suffix>`, or `<layer>` without a suffix; absent inputs are ""."""
        while not inputs[-1]:
            inputs = inputs[:-1]
        if domain == DOMAIN:
            if self._dense_inputs:  # the function has them all
                inputs = inputs + [""] * (len(INPUTS[op]) - ONLY_STATIC.get(op, 0) - len(inputs))
            inputs = [tensor or self._absent(INPUTS[op][index]) for index, tensor in enumerate(inputs)]
        name = self._names.new_node(f"{self._layer.name}/{suffix}" if suffix else self._layer.name)
        variables = [[gs.Variable(tensor) for tensor in tensors] for tensors in (inputs, outputs)]
        self._nodes.append(OnnxExporter.export_node(gs.Node(op, name, attributes, *variables, domain=domain)))

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
        """Returns the original's weights [M, Ic/group, kh, kw]: the operator's own unless they were fitted."""
        if self._plan.weights is None:
            return weights
        return self._constant("dense_weights", to_tensor(self._layer.weights, ""))

    def _dense_bias(self, bias: str) -> str:
        """Returns the original's bias [M]; a function's Conv takes no absent one."""
        if bias and self._plan.weights is None:
            return bias
        return self._constant("dense_bias", to_tensor(self._layer.biases, ""))

    def _absent(self, what: str) -> str:
        """Adds the constant that stands for an absent input before a present one (docs/operators.md, Absent inputs)."""
        return self._constant(
            f"no_{what}", to_tensor(np.zeros(0, np.int32 if what in ("coordinates", "B") else np.float32), "")
        )

    def _parameters(self) -> list[str]:
        """Adds the family's parameters as constants; returns their names up to the last, "" for absent ones."""
        arrays: list[tuple[str, npt.NDArray[Any] | None]] = self._plan.parameters.items()
        while arrays and arrays[-1][1] is None:
            arrays.pop()
        return ["" if array is None else self._constant(name, to_tensor(array, "")) for name, array in arrays]

    def _with_centroids(self, op: str, inputs: list[str]) -> list[str]:
        """Returns an operator's inputs with the centroids of scope static, which are the last."""
        if self._plan.centroids is None:
            return inputs
        name = INPUTS[op][-1]
        gap = [""] * (len(INPUTS[op]) - 1 - len(inputs))
        return [*inputs, *gap, self._constant(name, to_tensor(self._plan.centroids, ""))]

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
