"""The page docs/results/training.md, from the JSON files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from pathlib import Path
from statistics import fmean
from typing import Any

from tools import pages
from tools.pages import paragraph
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
        strategy_rows=_strategies,
        curve_rows=_curves,
        clock=lambda result: _Means(result.runs["none"]).clock,
        switches=_switches,
        number=_number,
    )


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


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "∞" if isinf(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
