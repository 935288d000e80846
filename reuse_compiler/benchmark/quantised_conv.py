"""Measures one convolution of bytes: onnxruntime's QLinearConv and QLinearReuseConv, in turn, in one process."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.conv import (
    DEFECT,
    LARGEST_TABLE_ERROR,
    WARM_UPS,
    described,
    notes_on,
    predicted_speedup,
    stages_of,
)
from reuse_compiler.benchmark.inputs import BYTE_STEP, BYTE_ZERO_POINT, LayerInput, build_input
from reuse_compiler.benchmark.layer import INPUT, NAME, OUTPUT
from reuse_compiler.benchmark.report import ConvReport, ReuseTiming, summarize
from reuse_compiler.errors import ConfigError, VerificationError
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.layer import QLINEAR_CONV_INPUTS
from reuse_compiler.passes.lower_to_reuse import DOMAIN, INPUTS
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import TO_PIXEL_MAJOR
from reuse_compiler.runtime import reset_statistics, statistics
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import interleave

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""
SPREAD = 75.0
"""Of the input's bytes: the standard deviation of numbers that are all equally likely, in steps."""


def measure_quantised(case: ConvCase, threads: int, repeats: int, progress: ProgressCallback = silent) -> ConvReport:
    """Measures both on the bytes of the case's input; the dense form is QLinearConv, the fused one QLinearReuseConv.

    Data are pixel-major, as onnxruntime has them in quantised networks. With scope static the layer has trees and
    centroids that are fitted to the input; with a number of hashes it has a hash of that many and centroids of the
    batch; else the family exact. Raises VerificationError for results that differ by a byte, or with tables of int8 by
    more than these explain.
    """
    case = _of_bytes(case)
    progress("building the input", 0, 0)
    spec, static, data = case.spec, case.scope == "static", build_input(case)
    x = np.rint(data.x / BYTE_STEP + BYTE_ZERO_POINT).astype(np.uint8).transpose(TO_PIXEL_MAJOR).copy()
    shape = _pixel_major(spec.output_shape)
    models = {op: _model(case, op, data) for op in ("QLinearConv", "QLinearReuseConv")}
    runs = {
        op: BoundRun(open_session(model, threads, op, plain=op == "QLinearConv"), x, shape)
        for op, model in models.items()
    }
    dense, reuse = runs.values()
    interleave(runs, WARM_UPS)
    error = _error(case, data, dense.output, reuse.output)
    reset_statistics(reuse.session)
    samples = interleave(runs, repeats, progress, f"timing {case}")
    (node,) = statistics(reuse.session)
    timings = [summarize(each, median(samples["QLinearConv"]), spec.multiply_adds) for each in samples.values()]
    clusters = (sum(data.clusters) if static else node.clusters / node.runs) / case.blocking.num_blocks
    return ConvReport(
        **described(case, data, clusters),
        threads=threads,
        repeats=repeats,
        notes=["dense is onnxruntime's QLinearConv, fused QLinearReuseConv, both on pixel-major bytes"]
        + ([] if FAMILIES[case.family].lossless else notes_on(case, data)),
        dense=timings[0],
        fused=ReuseTiming(
            **timings[1].model_dump(),
            stages_ms=stages_of([node]),
            scratch_bytes=node.scratch_bytes,
            relative_error=error,
        ),
        predicted_speedup=predicted_speedup(case, data, clusters / spec.rows),
        centroid_gflops=None,
        peaks=None,
        floor=None,
    )


def _of_bytes(case: ConvCase) -> ConvCase:
    """Returns the case with bytes for an input; raises ConfigError for settings that bytes do not have."""
    blocking = replace(case.blocking, spec=replace(case.spec, element="uint8"))
    if case.scope == "session" or (case.scope, case.table) == ("batch", "int8"):
        raise ConfigError(
            "--quantised measures int32 tables of equal vectors, or with --bits or --scope static those of int8: leave "
            "--table off, and --scope session"
        )
    if case.scope == "batch" and case.num_hashes is None:
        return replace(case, blocking=blocking, family="exact")
    if case.blocking.layout != "channel":
        raise ConfigError(
            "--quantised with --bits or --scope static measures vectors of channels: give an L that divides them"
        )
    return replace(case, blocking=blocking, table="int8")


def _error(case: ConvCase, data: LayerInput, dense: NDArray[np.uint8], reuse: NDArray[np.uint8]) -> float:
    """Returns the relative error of the bytes of a result."""
    difference = Difference()
    difference.add(*(each.astype(np.float32) - BYTE_ZERO_POINT for each in (dense, reuse)))
    error = difference.rel_error
    if FAMILIES[case.family].lossless and error > 0.0:
        raise VerificationError(
            "QLinearReuseConv has other bytes than QLinearConv: on an x86-64 processor without VNNI, onnxruntime's may "
            f"be cut off; on another, {DEFECT}"
        )
    if error > LARGEST_TABLE_ERROR and data.clusters == data.distinct:
        raise VerificationError(
            f"the result of QLinearReuseConv has a relative error of {error:.2g}, although every vector of the input "
            f"is a centroid: {DEFECT}"
        )
    return error


def _pixel_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of the same image as [N, H, W, channels]."""
    return tuple(shape[axis] for axis in TO_PIXEL_MAJOR)


def _model(case: ConvCase, op: str, data: LayerInput) -> onnx.ModelProto:
    """Returns one of the two operators alone, with weights and scales that spread outputs over all bytes."""
    g, rng = case.spec, np.random.default_rng([case.seed, 1])
    weights = rng.integers(-127, 128, g.weight_shape, np.int8)
    y_scale = np.float32(0.02 * np.sqrt(g.columns) * SPREAD * BYTE_STEP)
    values: list[Any] = [
        *(np.float32(BYTE_STEP), np.uint8(BYTE_ZERO_POINT), weights, np.full(g.out_channels, 0.01, np.float32)),
        *(np.zeros(g.out_channels, np.int8), y_scale, np.uint8(BYTE_ZERO_POINT)),
        rng.integers(-5000, 5000, g.out_channels, np.int32),
    ]
    attributes: dict[str, Any] = attributes_of(g)
    if op in INPUTS:
        attributes |= {"layout": case.blocking.layout, "sub_vector_length": case.blocking.sub_vector_length}
        if not FAMILIES[case.family].lossless:
            attributes |= {"scope": case.scope, "family": case.family, "num_hashes": data.num_hashes}
            values += [
                np.zeros(0, data.parameters.element(name)) if array is None else array
                for name, array in data.parameters.items()
            ]
        if data.centroids is not None:
            values.append(data.centroids)
        inputs = INPUTS[op]
    else:
        attributes["channels_last"] = 1
        inputs = list(QLINEAR_CONV_INPUTS)
    constants = dict(zip(inputs[1:], values, strict=False))
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
