"""The page docs/results/training.md, from the JSON files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isinf
from pathlib import Path
from statistics import fmean
from typing import Any

from tools.prose import paragraph
from tools.training_results.results import (
    Export,
    LayerTimes,
    Result,
    Strategies,
    Tuning,
    load,
    result_path,
)

TABLE_IV = {"s1": "38%", "s2": "63%", "s3": "46%"}
"""The training paper's savings of CifarNet's training time on a GPU, by strategy."""
NOTES = "training_notes.md"
"""Beside the page: what the figures mean, written by hand."""


def write_page(folder: Path) -> Path:
    """Writes the page with everything that has been measured; returns its path."""
    parts = ["# Training with reuse", "Made by `tools/training_results` from the `training_*.json` files beside it."]
    notes = folder / NOTES
    if notes.is_file():
        parts.append(notes.read_text(encoding="utf-8").strip())
    for question in ("layers", "layers_gpu"):
        if layers := load(LayerTimes, result_path(folder, question)):
            parts += _layers(layers)
    if strategies := load(Strategies, result_path(folder, "strategies")):
        parts += _strategies(strategies)
    if on_gpu := load(Strategies, result_path(folder, "gpu")):
        parts += _strategies(on_gpu)
    tunings = [load(Tuning, path) for path in sorted(folder.glob("training_tune_*.json"))]
    if found := [tuning for tuning in tunings if tuning]:
        parts += _tunings(found)
    if export := load(Export, result_path(folder, "export")):
        parts += _export(export)
    path = folder / "training.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _layers(result: LayerTimes) -> list[str]:
    rows = [
        (
            own.layer,
            own.setting,
            f"{own.r_c:.3f}",
            f"{own.dense_forward_ms:.1f} + {own.dense_backward_ms:.1f}",
            f"{own.forward_ms:.1f} ({own.cluster_ms:.1f}) + {own.backward_ms:.1f}",
            f"**{own.speedup:.2f}**",
            f"{1.0 / own.counted:.1f}",
        )
        for own in result.layers
    ]
    head = ("layer", "setting", "r_c", "Conv2d, ms", "ReuseConv2d, ms (clustering)", "faster", "by operations")
    dense = result.steps[0].ms
    steps = [(own.setting, f"{own.ms:.0f}", f"{1.0 - own.ms / dense:.0%}") for own in result.steps]
    whole = "A whole step of CifarNet, batch 128, reuse in conv2:"
    return [
        "## Time per step of a layer" + (", on a GPU" if result.device == "cuda" else ""),
        _where(result),
        _table(head, rows),
        whole,
        _table(("reuse", "ms", "saved"), steps),
    ]


def _strategies(result: Strategies) -> list[str]:
    base = _Means(result.runs["none"])
    rows = []
    for name, runs in result.runs.items():
        own = _Means(runs)
        compared = ("", "", "")
        if name != "none":
            compared = (
                f"{100.0 * (own.accuracy - base.accuracy):+.1f}",
                f"{1.0 - (1.0 - own.operations_saved) * own.steps / base.steps:.1%}",
                f"{1.0 - own.seconds / base.seconds:.1%}",
            )
        points, saved, less = compared
        accuracy = f"{own.accuracy:.4f}" + (f" ({own.lowest:.4f} to {own.highest:.4f})" if len(runs) > 1 else "")
        table_iv = TABLE_IV.get(name, "")
        rows.append((name, f"{own.steps:.0f}", accuracy, points, f"{own.seconds:.0f}", saved, less, table_iv))
    head = (
        "run",
        "steps",
        "top-1",
        "points",
        base.clock,
        "saved of these layers' operations",
        "time saved",
        "training paper",
    )
    lines = [f"    {run['command']}" for runs in result.runs.values() for run in runs]
    switches = [
        paragraph(f"* {name}, seed {run['seed']}, step {own['step']}: {_stages(own)}", indent="  ")
        for name, runs in result.runs.items()
        for run in runs
        for own in run.get("switches", [])
    ]
    several = max(len(runs) for runs in result.runs.values())
    words = [f"Means of {several} seeds, with the lowest and the highest accuracy."] if several > 1 else []
    parts = [f"## {result.network} with each strategy", _where(result), *words, _table(head, rows)]
    return [*parts, *(["Switches:", "\n".join(switches)] if switches else []), "\n".join(lines)]


def _stages(switch: dict[str, Any]) -> str:
    return f"stage {switch['before']} to {switch['after']}, {switch['reason']}"


class _Means:
    """Runs of one strategy with several seeds, together."""

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        accuracies = [run["test_accuracy"] for run in runs]
        self.accuracy, self.lowest, self.highest = fmean(accuracies), min(accuracies), max(accuracies)
        self.steps = fmean(run["steps"] for run in runs)
        # A processor's time is hardly changed by its neighbours; a GPU's is the one on the wall.
        on_gpu = runs[0].get("device") == "cuda"
        self.clock = "s" if on_gpu else "processor s"
        self.seconds = fmean(run["seconds" if on_gpu else "thread_seconds"] for run in runs)
        self.operations_saved = fmean(run.get("operations_saved", 0.0) for run in runs)


def _tunings(results: Sequence[Tuning]) -> list[str]:
    rows = [
        (own.network, own.setting, own.metric, *(_number(v) for v in (own.original, own.as_is)),
         _number(own.reconstructed), f"**{_number(own.tuned)}**")
        for own in results
    ]  # fmt: skip
    head = ("network", "reuse", "metric", "original", "as is", "reconstructed", "tuned")
    return ["## Tuning", *(_where(own) for own in results), _table(head, rows)]


def _export(result: Export) -> list[str]:
    rows = [
        ("PyTorch, reuse on", f"{result.pytorch_accuracy:.4f}"),
        ("compiled, onnxruntime", f"{result.compiled_accuracy:.4f}"),
        ("PyTorch, reuse off", f"{result.dense_accuracy:.4f}"),
    ]
    layers = ", ".join(f"{name} L={own['L']} H={own['H']}" for name, own in result.layers.items())
    words = f"{result.network} trained with strategy 2 ({len(result.switches)} switches; at the end {layers})."
    error = f"Relative difference of the scores: {result.output_error:.1e}."
    return [
        "## Export",
        _where(result),
        paragraph(f"{words} {error}"),
        _table(("model", "top-1 on 5,000 test images"), rows),
    ]


def _where(result: Result) -> str:
    machine = result.machine
    packages = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    where = paragraph(f"Measured on {machine.processor} ({machine.processors} processors), with {packages}:")
    return f"{where}\n\n    {result.command}"


def _number(value: float) -> str:
    if isinf(value):
        return "∞"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
