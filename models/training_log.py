"""What happened during a training: a CSV file with a row every few steps, a JSON file with the result, and a plot."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reuse_compiler.reports.page import check_extra

CSV_NAME, JSON_NAME, PLOT_NAME = "training.csv", "training.json", "training.svg"

Row = dict[str, float | int | str]


class TrainingLog:
    """Writes into a folder as training goes on; without a folder rows are only kept."""

    def __init__(self, folder: Path | None, layers: Sequence[str]) -> None:
        self._folder, self._layers = folder, list(layers)
        self.rows: list[Row] = []
        self._columns = ["step", "epoch", "seconds", "loss", "stage", "test_accuracy"]
        self._columns += [f"{name}.{what}" for name in self._layers for what in ("L", "H", "r_c", "R")]
        if folder is not None:
            check_extra()
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / CSV_NAME).open("w", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writeheader()

    def add(self, row: Row) -> None:
        """Adds a row; columns that it lacks are empty."""
        self.rows.append(row)
        if self._folder is not None:
            with (self._folder / CSV_NAME).open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes the result and the plot."""
        if self._folder is None:
            return
        (self._folder / JSON_NAME).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        plot(self.rows, self._layers, self._folder / PLOT_NAME)


def plot(rows: Sequence[Row], layers: Sequence[str], path: Path) -> None:
    """Draws loss, L, H and r_c over the steps, one below the other."""
    from matplotlib.figure import Figure

    shown = [("loss", {"loss": "loss"})]
    shown += [(symbol, {name: f"{name}.{symbol}" for name in layers}) for symbol in ("L", "H", "r_c") if layers]
    figure = Figure(figsize=(8.0, 2.0 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (label, columns) in zip(axes, shown, strict=True):
        for name, column in columns.items():
            points = [(row["step"], row[column]) for row in rows if column in row]
            axis.plot(*zip(*points, strict=True) if points else ([], []), label=name, drawstyle="steps-post")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        if len(columns) > 1:
            axis.legend(fontsize="small")
    axes[-1].set_xlabel("step")
    figure.savefig(path)
