"""The page docs/results/clusters_across_batches.md and its picture, from the JSON file beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reuse_compiler.reports.figures import SERIES, SURFACE, svg
from tools import pages
from tools.clusters_across_batches.results import AcrossBatches, LayerRates, NetworkRates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "clusters_across_batches"
SHOWN = (2, 5, 10)
"""Batches, counted from 1, beside the last one."""


def write_page(folder: Path, study: AcrossBatches) -> Path:
    """Writes page and picture; returns the page's path."""
    networks = _measured(study)
    (folder / f"{NAME}.svg").write_bytes(
        svg(300 * len(networks), 400, lambda figure: _paint(figure, networks), SURFACE)
    )
    return pages.write_page(
        folder / f"{NAME}.md",
        Path(__file__).with_name("page.md.j2"),
        study=study,
        batches=max(len(layer.rates) for network in networks for layer in network.layers),
        rate_rows=_rates,
        layer_rows=_layers,
        lost=lambda study: [100.0 * (own.top1[1] - own.top1[2]) for own in study.comparisons],
    )


def _measured(study: AcrossBatches) -> list[NetworkRates]:
    return [network for network in study.networks if network.layers]


def _by_family(network: NetworkRates) -> dict[str, list[LayerRates]]:
    families = dict.fromkeys(layer.family for layer in network.layers)
    return {family: [layer for layer in network.layers if layer.family == family] for family in families}


def _rates(study: AcrossBatches) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for network in _measured(study):
        for family, layers in _by_family(network).items():
            means = [fmean(column) for column in zip(*(layer.rates for layer in layers), strict=True)]
            lowest = min(layers, key=lambda layer: layer.rates[-1])
            last = [_rate(means[min(index, len(means)) - 1]) for index in (2, 5, len(means))]
            kept = f"{sum(layer.kept for layer in layers):,}"
            rows.append(
                (network.network, network.images, family, *last, f"{lowest.layer} {_rate(lowest.rates[-1])}", kept)
            )
    return rows


def _layers(study: AcrossBatches) -> list[str]:
    rows = []
    for network in _measured(study):
        for own in network.layers:
            shown = [own.rates[index - 1] for index in SHOWN if index < len(own.rates)] + [own.rates[-1]]
            cells = (f"{network.network} {own.layer}", own.family, str(own.L), str(own.H), f"{own.kept:,}")
            rows.append(pages.row([*cells, ", ".join(map(_rate, shown))]))
    return rows


def _rate(value: float) -> str:
    return f"{value:.4f}"


def _paint(figure: Figure, networks: Sequence[NetworkRates]) -> None:
    """Draws a column for each network and a row for each family, with a line for each convolution."""
    families = list(dict.fromkeys(layer.family for network in networks for layer in network.layers))
    axes: Any = figure.subplots(len(families), len(networks), squeeze=False, sharex=True, sharey=True)
    for column, network in enumerate(networks):
        for family, layers in _by_family(network).items():
            own = axes[families.index(family)][column]
            for index, layer in enumerate(layers):
                batches = range(1, len(layer.rates) + 1)
                own.plot(batches, layer.rates, color=SERIES[index % len(SERIES)], linewidth=1.2, label=layer.layer)
            own.set_title(f"{network.network}, {family}")
            own.set_ylim(0.0, 1.02)
            if len(layers) <= len(SERIES):
                own.legend(loc="lower right")
        axes[-1][column].set_xlabel("batch")
    for row in axes:
        row[0].set_ylabel("reuse rate R")
