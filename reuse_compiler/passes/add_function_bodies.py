"""Gives the operators of domain `ai.reuse` bodies of ONNX's own operators, so that a model runs without our library.

A body computes what the original did: it reads the inputs dense_weights and dense_bias, not the clusters. Where the
operator library is registered, its kernels run, and the bodies are not used (docs/operators.md, Function bodies).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from reuse_compiler.graph.edit import raise_ir_version
from reuse_compiler.graph.structure import STANDARD_DOMAINS, all_nodes
from reuse_compiler.passes.keep_pixel_major import POOLS
from reuse_compiler.passes.layer import QLINEAR_CONV_INPUTS
from reuse_compiler.passes.lower_to_reuse import DOMAIN, INPUTS
from reuse_compiler.passes.match_convolutions import CLIP_INPUTS_SINCE_OPSET
from reuse_compiler.reuse.activation import NO_ACTIVATION
from reuse_compiler.reuse.geometry import FROM_PIXEL_MAJOR, TO_PIXEL_MAJOR, same_padding

IR_VERSION = 8
"""The first with functions in a model."""
CONSTANT_FLOATS_SINCE_OPSET = 12
CONVOLUTIONS = ("ReuseConv", "Gather")
"""The operators that give a convolution's result."""
STAGES = {
    "Hash": {"codes": TensorProto.INT64},
    "Cluster": {"ids": TensorProto.INT32, "centroids": TensorProto.FLOAT, "counts": TensorProto.INT32},
    "CentroidGemm": {"table": TensorProto.FLOAT},
}
"""What passes from stage to stage. In bodies, the table is the weights, and all before it is empty."""

WINDOW: dict[str, Any] = {"strides": [1, 1], "pads": [0, 0, 0, 0], "auto_pad": "NOTSET"}
CONV = {"kernel_shape": None, **WINDOW, "dilations": [1, 1], "group": 1}
POOL = {"kernel_shape": None, **WINDOW, "ceil_mode": 0, "count_include_pad": 0}
PERMS = {"input_perm": [0, 1, 2, 3], "output_perm": [0, 1, 2, 3]}
DEFAULTS = {**CONV, **POOL, **PERMS, **NO_ACTIVATION._asdict()}
"""The attributes that bodies read, as they are where a node does not have them."""
LIMITS = {"min", "max"}


def add_function_bodies(model: onnx.ModelProto) -> None:
    """Adds to `model` a function for each operator of ours that it uses; its nodes must have their dense inputs.

    There is one function for all nodes of an operator. It has every step that one of them needs, so all are given the
    attributes of these steps.
    """
    nodes = defaultdict[str, list[onnx.NodeProto]](list)
    for node in all_nodes(model.graph.node):
        if node.domain == DOMAIN and node.op_type in INPUTS:
            nodes[node.op_type].append(node)
    others = [function for function in model.functions if function.domain != DOMAIN or function.name not in nodes]
    del model.functions[:]
    model.functions.extend(others)
    opset = next(opset.version for opset in model.opset_import if opset.domain in STANDARD_DOMAINS)
    for op, own in sorted(nodes.items()):
        model.functions.append(_redundancy(own, opset) if op == "Redundancy" else _function(op, own, opset))
    raise_ir_version(model, IR_VERSION)


def _complete(nodes: list[onnx.NodeProto]) -> dict[str, AttributeProto.AttributeType]:
    """Gives every node all attributes that one of them has and bodies read; returns all that there are."""
    for node in nodes:
        _explicit_pads(node)
    names = {attribute.name for node in nodes for attribute in node.attribute}
    if names & LIMITS:
        names |= LIMITS
    for node in nodes:
        own = {attribute.name: attribute for attribute in node.attribute}
        if "auto_pad" in own and own["auto_pad"].s != b"NOTSET":
            own["pads"] = own["auto_pad"]  # which tells the pads; both at once is an error
        missing = sorted((names & DEFAULTS.keys()) - own.keys())
        node.attribute.extend(helper.make_attribute(name, DEFAULTS[name]) for name in missing)
    return {attribute.name: attribute.type for node in nodes for attribute in node.attribute}


def _explicit_pads(node: onnx.NodeProto) -> None:
    """Writes pads in place of an auto_pad that does not depend on the input's size, so that nodes are more alike."""
    own = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    kind, kernel = own.get("auto_pad"), own.get("kernel_shape")
    strides, dilations = own.get("strides", [1, 1]), own.get("dilations", [1, 1])
    if kind == b"VALID":
        pads = [(0, 0), (0, 0)]
    elif kind in (b"SAME_UPPER", b"SAME_LOWER") and kernel is not None and set(strides) == {1}:
        upper = kind == b"SAME_UPPER"
        pads = [same_padding(1, size, 1, dilation, upper) for size, dilation in zip(kernel, dilations, strict=True)]
    elif kind == b"NOTSET":
        pads = None
    else:
        return
    kept = [each for each in node.attribute if each.name != "auto_pad"]
    del node.attribute[:]
    node.attribute.extend(kept)
    if pads is not None:
        node.attribute.append(helper.make_attribute("pads", [pad for ends in zip(*pads, strict=True) for pad in ends]))


def _function(op: str, own: list[onnx.NodeProto], opset: int) -> onnx.FunctionProto:
    attributes = _complete(own)
    inputs, outputs = INPUTS[op][: max(len(node.input) for node in own)], list(STAGES.get(op, "Y"))
    if op in CONVOLUTIONS:
        nodes = _Body(attributes).convolution("table" if op == "Gather" else "dense_weights", opset)
    elif op == "QLinearReuseConv":
        nodes = _Body(attributes).quantised_convolution(inputs)
    elif op == "ReuseConvInteger":
        nodes = _Body(attributes).integer_convolution(inputs)
    elif op in POOLS:
        nodes = _Body(attributes).pool(op)
    elif op in ("CentroidGemm", "Hold"):
        nodes = [helper.make_node("Identity", inputs[-1:], outputs)]
    else:
        # Before opset 9 there are constants of floating point only.
        nodes = [_nothing("empty")]
        nodes += [helper.make_node("Cast", ["empty"], [name], to=element) for name, element in STAGES[op].items()]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, op, inputs, outputs, nodes, opsets, sorted(attributes))


def _redundancy(own: list[onnx.NodeProto], opset: int) -> onnx.FunctionProto:
    """Returns the function by which nothing repeats enough, so that the original's nodes run.

    No number is less than itself. It is asked of the input, since onnxruntime 1.24 fails to replace an If whose
    condition is constant by its branch. Attributes are not read. onnxruntime wants the nodes to have all outputs of
    their function: it has `shares` only where one of them has it.
    """
    nodes = [
        helper.make_node("ReduceSum", ["X"], ["sum"], keepdims=0),
        helper.make_node("Less", ["sum", "sum"], ["enough"]),
        _nothing("shares"),
    ]
    outputs = ["enough", "shares"][: max(len(node.output) for node in own)]
    for node in own:
        node.output.extend([""] * (len(outputs) - len(node.output)))
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, "Redundancy", INPUTS["Redundancy"], outputs, nodes[: len(outputs) + 1], opsets)


def _nothing(name: str) -> onnx.NodeProto:
    """Returns the node of a constant without elements."""
    return helper.make_node("Constant", [], [name], value=helper.make_tensor("", TensorProto.FLOAT, [0], []))


class _Body:
    """Builds the body of a function with these attributes, as a chain from X to Y."""

    def __init__(self, attributes: dict[str, AttributeProto.AttributeType]) -> None:
        self._attributes = attributes
        self._nodes: list[onnx.NodeProto] = []
        self._tensor = "X"

    def convolution(self, weights: str, opset: int) -> list[onnx.NodeProto]:
        """Returns the nodes: order of data, Conv, activation, order of data, as far as there are attributes for it."""
        if "input_perm" in self._attributes:
            self._add("Transpose", perm="input_perm")
        self._add("Conv", weights, "dense_bias", **self._same(CONV))
        if "alpha" in self._attributes:
            self._add("LeakyRelu", alpha="alpha")
        if self._attributes.keys() >= LIMITS:
            if opset < CLIP_INPUTS_SINCE_OPSET:
                self._add("Clip", min="min", max="max")
            else:
                self._add("Clip", self._scalar("min", opset), self._scalar("max", opset))
        if "output_perm" in self._attributes:
            self._add("Transpose", perm="output_perm")
        return self._ended()

    def quantised_convolution(self, inputs: list[str]) -> list[onnx.NodeProto]:
        """Returns the nodes, for pixel-major data; their inputs are the function's."""
        self._transpose(inputs[0], FROM_PIXEL_MAJOR)
        self._add("QLinearConv", *inputs[1 : len(QLINEAR_CONV_INPUTS)], **self._same(CONV))
        self._transpose(self._tensor, TO_PIXEL_MAJOR)
        return self._ended()

    def integer_convolution(self, inputs: list[str]) -> list[onnx.NodeProto]:
        """Returns the nodes, likewise; the scale and the bias are brought along the channels."""
        self._transpose(inputs[0], FROM_PIXEL_MAJOR)
        self._add("ConvInteger", *inputs[1:4], **self._same(CONV))
        self._nodes.append(helper.make_node("Cast", [self._tensor], ["floats"], to=TensorProto.FLOAT))
        self._tensor = "floats"
        by_channel = helper.make_tensor("", TensorProto.INT64, [3], [-1, 1, 1])
        self._nodes.append(helper.make_node("Constant", [], ["by_channel"], value=by_channel))
        for op, operand in zip(("Mul", "Add"), inputs[4:], strict=True):
            self._nodes.append(helper.make_node("Reshape", [operand, "by_channel"], [f"{operand}_by_channel"]))
            self._add(op, f"{operand}_by_channel")
        self._transpose(self._tensor, TO_PIXEL_MAJOR)
        return self._ended()

    def pool(self, op: str) -> list[onnx.NodeProto]:
        """Returns the nodes of a pool of pixel-major data."""
        self._transpose("X", FROM_PIXEL_MAJOR)
        self._add(op, **self._same(POOL))
        self._transpose(self._tensor, TO_PIXEL_MAJOR)
        return self._ended()

    def _transpose(self, tensor: str, perm: tuple[int, ...]) -> None:
        self._tensor = f"Transpose_{len(self._nodes)}"
        self._nodes.append(helper.make_node("Transpose", [tensor], [self._tensor], perm=perm))

    def _ended(self) -> list[onnx.NodeProto]:
        self._nodes[-1].output[0] = "Y"
        return self._nodes

    def _same(self, names: Iterable[str]) -> dict[str, str]:
        return {name: name for name in names if name in self._attributes}

    def _add(self, op: str, *inputs: str, **attributes: str) -> None:
        """Adds a node behind the last one, whose attributes are the function's of the given names."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(self._referring(op, [self._tensor, *inputs], name, attributes))
        self._tensor = name

    def _referring(self, op: str, inputs: list[str], output: str, attributes: dict[str, str]) -> onnx.NodeProto:
        node = helper.make_node(op, inputs, [output])
        for name, source in attributes.items():
            node.attribute.add(name=name, ref_attr_name=source, type=self._attributes[source])
        return node

    def _scalar(self, attribute: str, opset: int) -> str:
        """Adds the nodes that make a tensor of a function's attribute; returns its name."""
        if opset >= CONSTANT_FLOATS_SINCE_OPSET:
            self._nodes.append(self._referring("Constant", [], attribute, {"value_float": attribute}))
            return attribute
        # Before, a Constant's value is a tensor, which no attribute is; but a product has a factor that is one.
        one, product = f"{attribute}/one", f"{attribute}/product"
        value = helper.make_tensor("", TensorProto.FLOAT, [1, 1], [1.0])
        self._nodes.append(helper.make_node("Constant", [], [one], value=value))
        self._nodes.append(self._referring("Gemm", [one, one], product, {"alpha": attribute}))
        self._nodes.append(helper.make_node("Squeeze", [product], [attribute], axes=[0, 1]))
        return attribute
