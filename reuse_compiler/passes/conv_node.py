"""A Conv node's attributes as a `ConvSpec` and back: the one place where either is read from the other."""

from __future__ import annotations

from math import prod
from typing import Any, cast

import onnx

from reuse_compiler.passes.layer import Refusal
from reuse_compiler.reuse.geometry import LARGEST_EXTENT, AutoPad, ConvSpec

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def read_spec(node: onnx.NodeProto, weights: list[int]) -> ConvSpec:
    """Returns what a Conv with weights of that shape computes, on an input of a size that is not known.

    Raises Refusal where the attributes contradict the weights, and for what reuse does not cover.
    """
    rank = len(weights) - 2
    if rank == 3:
        raise Refusal("it is a 3-D convolution; reuse covers 1-D and 2-D")
    if rank not in (1, 2):
        raise Refusal(f"it is malformed: its weights have {rank + 2} dimensions, a 2-D convolution's have 4")
    if prod(weights) == 0:
        raise Refusal("its weights have no elements")
    given = {attribute.name: attribute for attribute in node.attribute}

    def integers(name: str, default: list[int]) -> list[int]:
        return list(given[name].ints) or default if name in given else default

    kernel, pads = integers("kernel_shape", weights[2:]), integers("pads", [0] * 2 * rank)
    strides, dilations = integers("strides", [1] * rank), integers("dilations", [1] * rank)
    group = given["group"].i if "group" in given else 1
    auto_pad = given["auto_pad"].s.decode("utf-8", "replace") if "auto_pad" in given else "NOTSET"
    if kernel != weights[2:]:
        raise Refusal(f"it is malformed: kernel_shape {kernel} is not that of its weights {weights}")
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank or auto_pad not in AUTO_PADS:
        raise Refusal(f"it is malformed: strides, dilations, pads or auto_pad do not fit a {rank}-D convolution")
    if min(*strides, *dilations, group) < 1:
        raise Refusal("it is malformed: strides, dilations and group must be at least 1")
    if auto_pad == "NOTSET" and min(pads) < 0:
        raise Refusal(f"its pads {pads} are negative, which crops the input; put a Slice before it instead")
    if max(*strides, *dilations, *pads, group) > LARGEST_EXTENT:
        raise Refusal(f"its strides, dilations, pads or group exceed {LARGEST_EXTENT}, the largest that operators take")
    if weights[0] % group:
        raise Refusal(f"it is malformed: its {weights[0]} output channels cannot be divided into {group} groups")
    return ConvSpec.of([None] * len(weights), weights, strides, pads, dilations, group, cast(AutoPad, auto_pad))


def attributes_of(spec: ConvSpec) -> dict[str, Any]:
    """Returns the attributes of a node that computes `spec`, in the order of docs/operators.md."""
    padding = {"pads": list(spec.pads)} if spec.auto_pad == "NOTSET" else {"auto_pad": spec.auto_pad}
    return {
        "kernel_shape": list(spec.kernel),
        "strides": list(spec.strides),
        **padding,
        "dilations": list(spec.dilations),
        "group": spec.group,
    }
