"""Inlines model-local functions that hold convolutions, so that these can be rewritten call by call."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy

import onnx
from onnx import defs, inliner

from reuse_compiler.errors import ModelError, PassError
from reuse_compiler.graph.structure import STANDARD_DOMAINS, all_nodes
from reuse_compiler.passes.convolution_operators import is_convolution
from reuse_compiler.passes.lower_to_reuse import DOMAIN

FunctionId = tuple[str, str]
"""Domain and name of a model-local function."""
MAX_INLINED_NODES = 250_000
"""Functions that call functions double with every level; whole networks have some ten thousand nodes."""


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model without calls of functions with convolutions; `model` itself, unchanged, if there are none.

    Calls stay of functions whose operators mean something else under their own operator set than under the model's:
    `match_convolutions` reports them. Functions without convolutions stay, too. Raises PassError if onnx's inliner
    leaves a call, and ModelError for functions that it cannot inline or that become more than MAX_INLINED_NODES nodes.
    """
    wanted = _inlinable(model)
    if not wanted & _called(model.graph.node):
        return model
    _check_size(model, wanted)
    inlined = _inline(model, wanted)
    left = _inlinable(inlined) & _called(inlined.graph.node)
    if left:
        names = ", ".join(f"{domain}.{name}" for domain, name in sorted(left))
        raise PassError(f"onnx's inliner left calls of {names}")
    return inlined


def functions_with_convolutions(model: onnx.ModelProto) -> set[FunctionId]:
    """Returns the functions that hold a Conv-like node, directly or by calling one that does.

    The bodies of our own operators, which a compiled model has, are none of them: they are not what runs.
    """
    functions = [function for function in model.functions if function.domain != DOMAIN]
    direct = {_id(f) for f in functions if any(is_convolution(node) for node in all_nodes(f.node))}
    callers: dict[FunctionId, set[FunctionId]] = defaultdict(set)
    for function in functions:
        for called in _called(function.node):
            callers[called].add(_id(function))
    return _reached(direct, callers)


def _reached(start: set[FunctionId], links: Mapping[FunctionId, set[FunctionId]]) -> set[FunctionId]:
    """Returns the functions that links lead to from `start`, and those of `start`."""
    found, waiting = set(start), list(start)
    while waiting:
        more = links.get(waiting.pop(), set()) - found
        found |= more
        waiting.extend(more)
    return found


def _check_size(model: onnx.ModelProto, wanted: set[FunctionId]) -> None:
    """Raises ModelError where the wanted functions call themselves, or are too many nodes when inlined."""
    inner = {
        _id(f): Counter((n.domain, n.op_type) for n in all_nodes(f.node)) for f in model.functions if _id(f) in wanted
    }
    sizes: dict[FunctionId, int] = {}

    def size(calls: Counter[FunctionId]) -> int:
        return sum(count * sizes.get(call, 1) for call, count in calls.items())

    waiting, entered = list(inner), set[FunctionId]()
    while waiting:
        each = waiting[-1]
        unknown = [call for call in inner[each] if call in inner and call not in sizes]
        if each in sizes or not unknown:
            sizes[waiting.pop()] = size(inner[each])
        elif each in entered:
            raise ModelError(f"the model's function '{each[1]}' calls itself, which ONNX does not allow")
        else:
            entered.add(each)
            waiting.extend(unknown)
    total = size(Counter((node.domain, node.op_type) for node in all_nodes(model.graph.node)))
    if total > MAX_INLINED_NODES:
        raise ModelError(
            f"the model has {total} nodes once its functions with convolutions are inlined, and reuse-compiler takes "
            f"at most {MAX_INLINED_NODES}: export it without functions that call one another so often"
        )


def _inlinable(model: onnx.ModelProto) -> set[FunctionId]:
    """Returns the functions with convolutions that mean the same in place of their call."""
    candidates = functions_with_convolutions(model)
    # A function that calls one which must stay is inlined itself; its inner call is then left in the graph.
    return {_id(f) for f in model.functions if _id(f) in candidates and _same_operators(f, model)}


def _inline(model: onnx.ModelProto, wanted: set[FunctionId]) -> onnx.ModelProto:
    """Returns the model with the wanted functions inlined; the inliner sees no others, for it checks all opsets."""
    copy = deepcopy(model)
    kept = _needed({_id(function) for function in model.functions} - wanted, model)
    del copy.functions[:]
    copy.functions.extend(function for function in model.functions if _id(function) in wanted)
    versions = {opset.domain: opset.version for opset in model.opset_import}
    for function in copy.functions:
        for opset in function.opset_import:
            opset.version = versions.get(opset.domain, opset.version)
            if opset.domain not in versions:
                versions[opset.domain] = opset.version
                copy.opset_import.add(domain=opset.domain, version=opset.version)
    try:
        inlined = inliner.inline_selected_functions(copy, sorted(wanted))
    except Exception as error:  # onnx's ValidationError, or a bare RuntimeError
        raise ModelError(f"onnx cannot inline the model's functions: {error}; export it without functions") from error
    inlined.functions.extend(function for function in model.functions if _id(function) in kept)
    return inlined


def _needed(functions: set[FunctionId], model: onnx.ModelProto) -> set[FunctionId]:
    """Returns functions together with all that they call."""
    calls = {_id(f): _called(f.node) for f in model.functions}
    return _reached(functions, {caller: called & calls.keys() for caller, called in calls.items()})


def _same_operators(function: onnx.FunctionProto, model: onnx.ModelProto) -> bool:
    """Tells whether the function's standard operators have one definition in its own and in the model's opset."""
    own, outer = _standard_version(function.opset_import), _standard_version(model.opset_import)
    if own is None or outer is None or own == outer:
        return True
    standard = {node.op_type for node in all_nodes(function.node) if node.domain in STANDARD_DOMAINS}
    return all(_since_version(op, own) == _since_version(op, outer) is not None for op in standard)


def _standard_version(opsets: Iterable[onnx.OperatorSetIdProto]) -> int | None:
    return next((opset.version for opset in opsets if opset.domain in STANDARD_DOMAINS), None)


def _since_version(op_type: str, opset: int) -> int | None:
    try:
        return int(defs.get_schema(op_type, opset, "").since_version)
    except (defs.SchemaError, TypeError):  # the latter for a version that is no 32-bit integer
        return None


def _id(function: onnx.FunctionProto) -> FunctionId:
    return (function.domain, function.name)


def _called(nodes: Iterable[onnx.NodeProto]) -> set[FunctionId]:
    """Returns (domain, type) of all nodes, which name a function if there is one."""
    return {(node.domain, node.op_type) for node in all_nodes(nodes)}
