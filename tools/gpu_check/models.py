"""Models for the measurements: cases of layers, float16 versions, and which layers of a network gain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reuse_compiler.benchmark.case import BenchFamily, ConvCase, make_case
from reuse_compiler.graph.shapes import tensor_shapes
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.choose_parameters import choose_parameters, plan_of
from reuse_compiler.pipeline import apply_plan, find_layers
from reuse_compiler.reuse.config import TableType
from reuse_compiler.reuse.fitted import Fitted
from tools.goals.table import GOALS, Goal

TABLES: tuple[TableType, ...] = ("int8", "float")
ISSUE_GOAL = Goal((256, 256), 3, 56, 256, 4.0, 0.02)
"""The layer that shall be 4 times as fast as cuDNN with TF32 off and 1.5 times with TF32 on, at batch 128."""
STATIC_GOALS = tuple(Goal((256, 256), 3, 56, 64, 1.0, clusters=256, table=table, scope="static") for table in TABLES)
"""The same layer with tables that are computed once, of 2.4 and 9.4 MB: both stay in the L2 cache."""
MOST_TREE_LEAVES = 2**13
"""Fitting larger trees to the vectors of a benchmark takes too long; random hyperplanes tell them apart as well."""
HASH_PARAMETERS = ("projections", "thresholds", "coordinates")
REUSE_DOMAIN = "ai.reuse"


def layer_case(goal: Goal, batch: int) -> ConvCase:
    """Returns the layer of a goal with that many images for each that it has."""
    images = goal.batch * batch
    rows = images * goal.size**2
    per_image = goal.remaining_ratio if goal.clusters is None else goal.clusters / (goal.batch * goal.size**2)
    assert per_image is not None
    # So many clusters in a block are told as a number where tables are int8: they do not grow with the batch.
    distinct = round(per_image * rows) if goal.clusters is None else goal.clusters
    family: BenchFamily = "learned" if distinct <= MOST_TREE_LEAVES else "sign"
    return make_case(
        input_shape=(images, goal.channels[0], goal.size, goal.size),
        weight_shape=(goal.channels[1], goal.channels[0], goal.kernel, goal.kernel),
        sub_vector_length=goal.sub_vector_length,
        remaining_ratio=distinct / rows,
        family=family,
        table=goal.table,
        scope=goal.scope,
    )


def layer_order() -> list[tuple[Goal, int]]:
    """Returns what to measure, the most wanted first: time may run out."""
    wanted = [(ISSUE_GOAL, 128), (ISSUE_GOAL, 16), (ISSUE_GOAL, 1)]
    wanted += [(goal, batch) for batch in (128, 1) for goal in STATIC_GOALS]
    return wanted + [(goal, batch) for batch in (16, 1, 128) for goal in GOALS]


PARAMETERS_AT = {"ReuseConv": slice(3, 6), "Hash": slice(1, 4)}
"""Which inputs of an operator are parameters of its hash."""


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with float16 images and weights; hash parameters stay float32."""
    changed = deepcopy(model)
    kept = {
        name
        for node in changed.graph.node
        if node.domain == REUSE_DOMAIN
        for name in node.input[PARAMETERS_AT.get(node.op_type, slice(0))]
    }
    for tensor in changed.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in [*changed.graph.input, *changed.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del changed.graph.value_info[:]
    return changed


def compile_layers(
    model: onnx.ModelProto, excluded: list[str], shapes: Mapping[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """Returns the model with lossless reuse in all layers that can have it but the excluded ones."""
    pattern = "^(" + "|".join(map(re.escape, excluded)) + ")$" if excluded else None
    options = CompileOptions(family="exact", force=True, exclude=pattern)
    prepared = find_layers(model, shapes)
    plan = plan_of(choose_parameters(prepared.layers, options, None, Fitted(), {}))
    return apply_plan(prepared, plan, keep_order=True).model


def convolutions(model: onnx.ModelProto, bound: Mapping[str, tuple[int, ...]]) -> dict[str, onnx.ModelProto]:
    """Returns each convolution of a model alone, by its name, for inputs of the shapes `bound`."""
    shapes = tensor_shapes(model, bound)
    weights = {t.name: t for t in model.graph.initializer}
    alone = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights:
            continue
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])
            for name in (node.input[0], node.output[0])
        ]
        constants = [weights[name] for name in node.input[1:]]
        graph = helper.make_graph([node], node.name, ends[:1], ends[1:], constants)
        alone[node.name] = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return alone
