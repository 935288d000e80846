"""The page docs/papers.md: the entries, with numbers drawn from docs/results, and what takes a table of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tools import pages
from tools.papers.entries import PAPERS, Entry
from tools.papers.layers import LAYERS
from tools.papers.results import FOLDER, Curve, Curves, Layers, LayerSpeeds, path_of

PAGE = Path("docs/papers.md")
FORMS = ("cube", "lsh", "session", "trees", "static")
SMALL = 0.03
"""The r_c at which K-means is compared."""


def page() -> str:
    """Returns the page as the files that are there have it."""
    values: dict[str, Any] = {path.stem: keyed(json.loads(path.read_text("utf-8"))) for path in FOLDER.glob("*.json")}
    layers = Layers.model_validate_json(path_of("layers").read_text("utf-8"))
    curves = Curves.model_validate_json(path_of("curves").read_text("utf-8")).curves
    values["drawn"] = drawn(values, layers.layers, curves)
    return pages.page(
        Path(__file__).with_name("page.md.j2"),
        papers=PAPERS,
        rows=lambda entries: [row(entry, values) for entry in entries],
        layers=layers,
        table_2={(own.network, own.layer): own for own in LAYERS},
        beaten=beaten(layers.layers),
        behind=behind(layers.layers),
        curve_tables=curve_tables(curves),
    )


def keyed(value: Any) -> Any:
    """Returns a file's contents with lists of what has a name as mappings by it."""
    if isinstance(value, dict):
        return {key: keyed(own) for key, own in value.items()}
    if not isinstance(value, list):
        return value
    names = [own.get("name") or own.get("network") if isinstance(own, dict) else None for own in value]
    known = None not in names and len(set(names)) == len(names)
    return dict(zip(names, map(keyed, value), strict=True)) if known else list(map(keyed, value))


def row(entry: Entry, values: dict[str, Any]) -> list[str]:
    """Returns the cells of an entry."""
    places = []
    for place in entry.where:
        file, _, name = place.partition("::")
        places.append(f"[{name or file.rpartition('/')[2]}]({os.path.relpath(file, PAGE.parent)})")
    commands = [f"`{command}`" for command in entry.command.split("; ") if command]
    return [entry.item.format(), entry.says.format(), entry.ours.format(**values), ", ".join(places + commands)]


def drawn(values: dict[str, Any], layers: Sequence[LayerSpeeds], curves: Sequence[Curve]) -> dict[str, Any]:
    """Returns what the files do not have as it is: means, differences, the lowest and the like."""
    found: dict[str, Any] = {}
    for network in dict.fromkeys(own.network for own in layers):
        speeds = [own.speeds() for own in layers if own.network == network]
        found[network] = {form: fmean(own[form] for own in speeds if form in own) for form in FORMS}
    across = values["clusters_across_batches"]
    found["rates"] = {
        name: [min(own["rates"][batch - 1] for own in network["layers"]) for batch in (5, 20)]
        for name, network in across["networks"].items()
        if network["layers"]
    }
    found["cr"] = {own["layers"]: own["top1"] for own in across["comparisons"] if own["family"] == "sign"}
    found["quantised"] = {
        own["network"]: own["int8_ms"] / own["reuse_ms"]
        for own in values["quantised"]["lines"]
        if own["images"].startswith("page")
    }
    static = [own for own in values["static"]["lines"] if own["scope"] == "static" and own["weights"] == "refitted"]
    found["static"] = static[-1]["top1"] - values["static"]["original"]  # int8 tables
    found["training"] = training(values["training_strategies_cifarnet"]["runs"])
    found["steps"] = steps(values["training_layers"]["steps"])
    found["perforation"] = {
        name: perforation(own["top1"], values[f"calibration_{name}"])
        for name, own in values["papers_perforation"]["networks"].items()
    }
    found["kmeans"] = kmeans([own for own in curves if own.method == "kmeans"])
    found["lsh"] = {name: recovered(own) for name, own in by_layer(curves, "lsh").items()}
    return found


def training(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Returns the time that each strategy saves, in percent, and the steps of strategy 2 and of no reuse."""
    means = {name: fmean(own["thread_seconds"] for own in each) for name, each in runs.items()}
    saved = {name: 100 * (1 - own / means["none"]) for name, own in means.items()}
    return saved | {"steps": runs["s2"][0]["steps"], "dense steps": runs["none"][0]["steps"]}


def steps(times: list[dict[str, Any]]) -> dict[int, float]:
    """Returns the time that a step of the CIFAR VGG saves with deltas of int8, in percent, by L (at the largest H)."""
    own = [each for each in times if each["network"] == "cifar_vgg"]
    return {
        length: 100 * (1 - each["ms"] / own[0]["ms"])
        for length in (8, 16)
        for each in own
        if f"L={length}," in each["setting"] and each["setting"].endswith("int8 deltas")
    }


def perforation(top1: dict[str, float], calibration: dict[str, Any]) -> dict[str, float]:
    """Returns the changes of accuracy in points, and how many times fewer operations the layers take."""
    report = calibration["calibrations"][0]["report"]
    reuse = [own for own in report["layers"].values() if own["decision"] == "reuse"]
    dense = [own["N"] * own["K"] * own["M"] for own in reuse]
    left = [size * own["chosen"]["operations"] for size, own in zip(dense, reuse, strict=True)]
    changes = {mask: 100 * (own - top1["original"]) for mask, own in top1.items()}
    return changes | {
        "saved": sum(dense) / sum(left),
        "reuse": 100 * calibration["variants"]["learned"]["change"],
    }


def by_layer(curves: Iterable[Curve], method: str) -> dict[str, list[Curve]]:
    """Returns the curves of each layer that was studied with a method."""
    found: dict[str, list[Curve]] = {}
    for own in curves:
        if own.method == method:
            found.setdefault(f"{own.network} {own.layer}", []).append(own)
    return found


def kmeans(curves: Sequence[Curve]) -> dict[str, float]:
    """Returns accuracies at SMALL, of curves of one layer."""
    found = {"original": curves[0].original}
    for own in curves:
        scope, granularity = "" if own.scope == "batch" else "image ", "whole" if own.L == own.K else "sub"
        found |= {f"{scope}{granularity} {own.metric}": top1 for effort, _, top1 in own.points if effort == SMALL}
    return found


def recovered(curves: Sequence[Curve]) -> str:
    """Returns in words from what r_c on a layer keeps the accuracy."""
    kept = [(r_c, f"from r_c {r_c:.2f} on (L={own.L})") for own in curves for r_c in own.kept()]
    return min(kept)[1] if kept else "at none that was tried"


def curve_tables(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """Returns title and table of each layer's curves; a cell has accuracy and r_c."""
    found = []
    for method, effort, title in (("lsh", "H=", "LSH in a batch"), ("kmeans", "", "K-means, clusters as a share")):
        for layer, own in by_layer(curves, method).items():
            efforts = sorted({point[0] for curve in own for point in curve.points})
            head = ["vectors", *(f"{effort}{each:g}" for each in efforts)]
            rows = [[_name(curve), *_cells(curve, efforts)] for curve in own]
            first = own[0]
            words = f"{layer}, {title}: K = {first.K}, {first.images} images, original {first.original:.3f}"
            found.append((words, pages.table(head, rows)))
    return found


def _name(curve: Curve) -> str:
    length = f"L={curve.L}" + (" (whole)" if curve.L == curve.K else "")
    return length if curve.method == "lsh" else f"{curve.scope}, {length}, {curve.metric}"


def _cells(curve: Curve, efforts: Iterable[float]) -> list[str]:
    known = {effort: f"{top1:.3f} ({r_c:.2g})" for effort, r_c, top1 in curve.points}
    return [known.get(effort, "") for effort in efforts]


def beaten(layers: Iterable[LayerSpeeds]) -> dict[str, int]:
    """Returns in how many of the layers of AlexNet and VGG-19 behind the first one ours is faster than the paper's."""
    papers = {(own.network, own.layer): own.lsh for own in LAYERS}
    later = [own for own in layers if own.network != "cifarnet" and own.layer != "conv1"]
    count = {"all": len(later)}
    for form, column in (("lsh", 3), ("trees", 3), ("session", 4), ("static", 4)):
        count[form] = sum(own.speeds()[form] > papers[own.network, own.layer][column] for own in later)
    return count


def behind(layers: Sequence[LayerSpeeds]) -> dict[str, float]:
    """Returns the mean speed-up of LSH in each network's layers behind the first one."""
    later = [own for own in layers if own.layer != "conv1"]
    return {
        network: fmean(own.speeds()["lsh"] for own in later if own.network == network)
        for network in dict.fromkeys(own.network for own in later)
    }
