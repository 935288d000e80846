"""Node times of a model from onnxruntime's profiler, and from which node of the model file each comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx

from reuse_compiler.benchmark.report import NodeTime

if TYPE_CHECKING:
    import onnxruntime

KERNEL = "_kernel_time"
BLOCKED = "_nchwc"
"""What onnxruntime appends to the output's name of a convolution that it computes in its blocked layout."""
LONGEST_FUSION = 4
"""So many nodes at most are looked through from a fused node's output up to its convolution."""

Open = Callable[[Path], "onnxruntime.InferenceSession"]
"""Opens a session with the profiler writing to files of this prefix."""


def profile(model: onnx.ModelProto, open_with: Open, run: Callable[[Any], object], runs: int) -> list[NodeTime]:
    """Runs a model `runs` times (and once before) under the profiler; returns its nodes in order of execution.

    Times are sums by node name, per run. `run` is called with the session.
    """
    with TemporaryDirectory(prefix="reuse-profile-") as folder:
        opened = open_with(Path(folder) / "profile")
        for _ in range(runs + 1):
            run(opened)
        events = json.loads(Path(opened.end_profiling()).read_text(encoding="utf-8"))
    totals: dict[tuple[str, str], float] = {}
    for event in _after_first_run(events):
        name, op = str(event["name"]).removesuffix(KERNEL), str(event["args"].get("op_name", ""))
        key = (name or f"{op} #{event['args'].get('node_index', '')}", op)
        totals[key] = totals.get(key, 0.0) + event["dur"]
    origin = _Origins(model)
    return [
        NodeTime(layer=origin.of(name, op), node=name, op=op, ms=1e-3 * total / runs)
        for (name, op), total in totals.items()
    ]


def _after_first_run(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the events of kernels after the first run, which packs weights and maps memory."""
    end = min(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    kernels = [e for e in events if e.get("cat") == "Node" and str(e["name"]).endswith(KERNEL) and e["ts"] >= end]
    return sorted(kernels, key=lambda event: int(event["ts"]))


class _Origins:
    """The nodes of a model's main graph, by their names and outputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._names = {node.name for node in model.graph.node if node.name}
        self._producers = {output: node for node in model.graph.node for output in node.output}

    def of(self, name: str, op: str) -> str:
        """Returns the node of the model file behind an optimised node, or the optimised node's own name."""
        if name in self._names:
            return name
        tensor = name.removesuffix(BLOCKED)
        for _ in range(LONGEST_FUSION):
            node = self._producers.get(tensor)
            if node is None:
                break
            if node.op_type == op:
                return str(node.name or node.output[0])
            tensor = node.input[0] if node.input else ""
        return name
