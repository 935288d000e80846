"""The operators that count as convolutions, and why each but `Conv` stays as it is."""

from __future__ import annotations

import onnx

from reuse_compiler.graph.structure import STANDARD_DOMAINS

DECLINED_OPERATORS = {
    "ConvTranspose": "is a transposed convolution, which spreads each input pixel instead of gathering a window",
    "QLinearConv": "is a quantised convolution of an optimiser's own kind; reuse covers ONNX's QLinearConv",
    "DeformConv": "is a deformable convolution: its windows differ from pixel to pixel",
    "FusedConv": "was fused by an optimiser of onnxruntime; compile the model as it was before optimisation",
    "NhwcConv": "was laid out by an optimiser of onnxruntime; compile the model as it was before optimisation",
    "NhwcFusedConv": "was laid out by an optimiser of onnxruntime; compile the model as it was before optimisation",
    "ConvTransposeWithDynamicPads": "is a transposed convolution, which spreads each input pixel",
    "ReuseConv": "is a reuse convolution already; compile the original model to choose anew",
    "Hash": "is a reuse convolution already; compile the original model to choose anew",
}
"""What the report says after "it"; by operator type in whichever domain of `CONVOLUTION_DOMAINS`."""

CONVOLUTION_DOMAINS = {
    "": {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"},
    "com.microsoft": {"QLinearConv", "FusedConv", "NhwcConv", "NhwcFusedConv", "ConvTransposeWithDynamicPads"},
    "com.microsoft.nchwc": {"Conv"},
    "com.ms.internal.nhwc": {"Conv", "ConvTranspose", "QLinearConv"},
    "ai.reuse": {"ReuseConv", "Hash"},
}


def is_convolution(node: onnx.NodeProto) -> bool:
    """Tells whether the report lists this node."""
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    return node.op_type in CONVOLUTION_DOMAINS.get(domain, ())


def declined_operator(node: onnx.NodeProto) -> str | None:
    """Returns why a convolution is of a kind that reuse does not cover, or None for those of ONNX that it covers."""
    if node.op_type in ("Conv", "QLinearConv", "ConvInteger") and node.domain in STANDARD_DOMAINS:
        return None
    return "it " + DECLINED_OPERATORS.get(node.op_type, DECLINED_OPERATORS["NhwcConv"])
