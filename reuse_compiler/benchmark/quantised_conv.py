"""Measures one convolution of bytes: onnxruntime's QLinearConv and QLinearReuseConv, in turn, in one process."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.conv import DEFECT, WARM_UPS, described, predicted_speedup, stages_of
from reuse_compiler.benchmark.inputs import build_input
from reuse_compiler.benchmark.layer import INPUT, NAME, OUTPUT
from reuse_compiler.benchmark.report import ConvReport, ReuseTiming, summarize
from reuse_compiler.errors import ConfigError, VerificationError
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.layer import QLINEAR_CONV_INPUTS
from reuse_compiler.passes.lower_to_reuse import DOMAIN, INPUTS
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.geometry import TO_PIXEL_MAJOR
from reuse_compiler.runtime import reset_statistics, statistics
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import interleave

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""
ZERO_POINT, STEPS = 128, 32
"""Of the input's bytes, and how many there are for its standard deviation."""


def measure_quantised(case: ConvCase, threads: int, repeats: int, progress: ProgressCallback = silent) -> ConvReport:
    """Measures both on the bytes of the case's input; the dense form is QLinearConv, the fused one QLinearReuseConv.

    Data are pixel-major, as onnxruntime has them in quantised networks. Raises VerificationError if a byte of the
    results differs.
    """
    if (case.scope, case.table) != ("batch", "float"):
        raise ConfigError("--quantised measures int32 tables of the batch's clusters: leave --scope and --table off")
    progress("building the input", 0, 0)
    spec = replace(case.spec, element="uint8")
    case = replace(case, family="exact", blocking=replace(case.blocking, spec=spec))
    data = build_input(case)
    x = np.rint(data.x * STEPS + ZERO_POINT).clip(0, 255).astype(np.uint8).transpose(TO_PIXEL_MAJOR).copy()
    shape = _pixel_major(spec.output_shape)
    runs = {
        op: BoundRun(open_session(_model(case, op), threads, op, plain=op == "QLinearConv"), x, shape)
        for op in ("QLinearConv", "QLinearReuseConv")
    }
    dense, reuse = runs.values()
    interleave(runs, WARM_UPS)
    if (dense.output != reuse.output).any():
        raise VerificationError(
            "QLinearReuseConv has other bytes than QLinearConv: on an x86-64 processor without VNNI, onnxruntime's may "
            f"be cut off; on another, {DEFECT}"
        )
    reset_statistics(reuse.session)
    samples = interleave(runs, repeats, progress, f"timing {case}")
    (node,) = statistics(reuse.session)
    timings = [summarize(each, median(samples["QLinearConv"]), spec.multiply_adds) for each in samples.values()]
    clusters = node.clusters / node.runs / node.blocks
    return ConvReport(
        **described(case, data, clusters),
        threads=threads,
        repeats=repeats,
        notes=["dense is onnxruntime's QLinearConv, fused QLinearReuseConv, both on pixel-major bytes"],
        dense=timings[0],
        fused=ReuseTiming(
            **timings[1].model_dump(),
            stages_ms=stages_of([node]),
            scratch_bytes=node.scratch_bytes,
            relative_error=0.0,
        ),
        predicted_speedup=predicted_speedup(case, data, clusters / spec.rows),
        centroid_gflops=None,
        peaks=None,
        floor=None,
    )


def _pixel_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of the same image as [N, H, W, channels]."""
    return tuple(shape[axis] for axis in TO_PIXEL_MAJOR)


def _model(case: ConvCase, op: str) -> onnx.ModelProto:
    """Returns one of the two operators alone, with weights and scales that spread outputs over all bytes."""
    g, rng = case.spec, np.random.default_rng([case.seed, 1])
    weights = rng.integers(-127, 128, g.weight_shape, np.int8)
    values = [
        *(np.float32(1 / STEPS), np.uint8(ZERO_POINT), weights, np.full(g.out_channels, 0.01, np.float32)),
        *(np.zeros(g.out_channels, np.int8), np.float32(0.02 * np.sqrt(g.columns)), np.uint8(128)),
        rng.integers(-5000, 5000, g.out_channels, np.int32),
    ]
    constants = dict(zip(QLINEAR_CONV_INPUTS[1:], values, strict=True))
    own: dict[str, Any] = {"layout": case.blocking.layout, "sub_vector_length": case.blocking.sub_vector_length}
    attributes = attributes_of(g) | (own if op in INPUTS else {"channels_last": 1})
    domain = DOMAIN if op in INPUTS else CONTRIB
    node = helper.make_node(op, [INPUT, *constants], [OUTPUT], NAME, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, _pixel_major(g.input_shape))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.UINT8, _pixel_major(g.output_shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid(each, version) for each, version in {"": 17, DOMAIN: 1, CONTRIB: 1}.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
