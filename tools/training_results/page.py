"""The page docs/results/training.md, from the JSON files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from pathlib import Path
from statistics import fmean
from typing import Any

from tools import pages
from tools.prose import paragraph
from tools.training_results.results import Export, LayerTimes, Strategies, Tuning, load, result_path

TABLE_IV = {"cifarnet": {"s1": "38%", "s2": "63%", "s3": "46%"}}
"""The training paper's savings of the time of training on a GPU, by network and strategy."""
STRATEGIES = ("strategies_cifarnet", "strategies_cifar_vgg", "gpu")
NOTES = "training_notes.md"
"""Beside the page: what the figures mean, written by hand."""


def write_page(folder: Path) -> Path:
    """Writes the page with everything that has been measured; returns its path."""
    notes = folder / NOTES
    layers = [load(LayerTimes, result_path(folder, name)) for name in ("layers", "layers_gpu")]
    strategies = [load(Strategies, result_path(folder, name)) for name in STRATEGIES]
    return pages.write_page(
        folder / "training.md",
        Path(__file__).with_name("page.md.j2"),
        notes=notes.read_text(encoding="utf-8").strip() if notes.is_file() else "",
        layers=filter(None, layers),
        strategies=filter(None, strategies),
        tunings=[load(Tuning, path) for path in sorted(folder.glob("training_tune_*.json"))],
        exports=filter(None, [load(Export, result_path(folder, "export"))]),
        layer_rows=_layers,
        step_rows=_steps,
        strategy_rows=_strategies,
        curve_rows=_curves,
        clock=lambda result: _Means(result.runs["none"]).clock,
        switches=_switches,
        tuning_rows=_tunings,
        export_rows=_export,
    )


def _layers(result: LayerTimes) -> list[Sequence[str]]:
    return [
        (
            own.layer,
            own.setting,
            f"{own.r_c:.3f}",
            f"{own.dense_forward_ms:.1f} + {own.dense_backward_ms:.1f} ({own.dense_weight_ms:.1f})",
            f"{own.forward_ms:.1f} ({own.cluster_ms:.1f}) + {own.backward_ms:.1f} ({own.weight_ms:.1f})",
            f"**{own.speedup:.2f}**",
            f"{1.0 / own.counted:.1f}",
        )
        for own in result.layers
    ]


def _steps(result: LayerTimes) -> list[Sequence[str]]:
    dense = {own.network: own.ms for own in reversed(result.steps)}
    return [
        (own.network, own.setting, f"{own.ms:.0f}", f"{1.0 - own.ms / dense[own.network]:.0%}") for own in result.steps
    ]


def _strategies(result: Strategies) -> list[Sequence[str]]:
    base = _Means(result.runs["none"])
    rows: list[Sequence[str]] = []
    for name, runs in result.runs.items():
        own = _Means(runs)
        points, saved, less = ("", "", "")
        if name != "none":
            points = f"{100.0 * (own.accuracy - base.accuracy):+.1f}"
            saved = f"{1.0 - (1.0 - own.operations_saved) * own.steps / base.steps:.1%}"
            less = f"{1.0 - own.seconds / base.seconds:.1%}"
        accuracy = f"{own.accuracy:.4f}" + (f" ({own.lowest:.4f} to {own.highest:.4f})" if len(runs) > 1 else "")
        table_iv = TABLE_IV.get(result.network, {}).get(name, "")
        rows.append((name, f"{own.steps:.0f}", accuracy, points, f"{own.seconds:.0f}", saved, less, table_iv))
    return rows


def _curves(result: Strategies) -> list[Sequence[str]]:
    return [
        (name, str(run["seed"]), " ".join(f"{loss:.2f} ({seconds:.0f})" for seconds, loss in run["curve"]))
        for name, runs in result.runs.items()
        for run in runs
        if run.get("curve")
    ]


def _switches(result: Strategies) -> list[str]:
    return [
        paragraph(f"* {name}, seed {run['seed']}, step {own['step']}: {_stages(own)}", indent="  ")
        for name, runs in result.runs.items()
        for run in runs
        for own in run.get("switches", [])
    ]


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


def _tunings(results: Sequence[Tuning]) -> list[Sequence[str]]:
    return [
        (own.network, own.setting, own.metric, *map(_number, (own.original, own.as_is, own.reconstructed)),
         f"**{_number(own.tuned)}**", "" if own.compiled is None else _number(own.compiled))
        for own in results
    ]  # fmt: skip


def _export(result: Export) -> list[Sequence[str]]:
    return [
        ("PyTorch, reuse on", f"{result.pytorch_accuracy:.4f}"),
        ("compiled, onnxruntime", f"{result.compiled_accuracy:.4f}"),
        ("PyTorch, reuse off", f"{result.dense_accuracy:.4f}"),
    ]


def _number(value: float) -> str:
    if isinf(value):
        return "∞"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
