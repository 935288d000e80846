"""The settings that are worth measuring for a layer: those that the cost model does not rule out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import get_args

from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.options import CalibrationOptions, ScopeChoice
from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import FamilyName, LayerSettings, Scope, TableType, make_settings
from reuse_compiler.reuse.cost import predicted_cost
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from reuse_compiler.reuse.static_tables import table_bytes

FEWEST_CHANNELS = 4
"""Layers with fewer channels (the first one) are cut in layout `patch`."""
PATCH_PARTS = (1, 2, 3)
"""Into how many blocks the unfolded input of such a layer is cut."""
LONGEST_INT8, SHORTEST_FLOAT = 32, 16
"""The error of int8 tables pays where many rows are added, which is where vectors are short."""
STATIC_FAMILY: FamilyName = "learned"
"""The family whose codes are fitted to have the vectors behind them alike, which is what a fixed centroid needs."""
LONGEST_STATIC = 32
"""Longer vectors have too few centroids: those of a batch follow its vectors, static ones do not."""
TABLE_SHARE = 0.25
"""Largest share of what the model's static tables may take together that a layer is tried with: tables that memory does
not hold are computed in each run, which a layer that was measured with its tables kept would not show."""
MOST_EXPECTED = {"channel": 1.0, "patch": 2.0}
"""Expected cost, over the dense layer's, up to which settings are measured. The cost model takes onnxruntime's Conv at
its best speed; the layers that are cut into patches are first layers, which it computes at half of it."""
MOST_REMAINING = 0.5
"""Settings that could keep more than half of the vectors are not tried."""


def candidates(spec: ConvSpec, options: CalibrationOptions, effort: Effort) -> list[LayerSettings]:
    """Returns settings for the layer, least detailed first; none where the cost model expects no gain from any.

    A layer of bytes has those of static clusters. Equal vectors are lossless, and need no calibration; clusters of a
    batch by code have no fitted weights, and lose more in more time (docs/performance.md, Clusters of bytes by code).
    """
    family, scope = options.family, options.scope
    families: Iterable[FamilyName] = get_args(FamilyName) if family == "all" else (family,)
    scopes: tuple[Scope, ...] = ("batch", "static") if scope == "both" else (scope,)
    found = []
    for own, name in product(scopes, families):
        if (own == "static" and name != STATIC_FAMILY) or (own != "static" and spec.is_quantised):
            continue
        for layout, length in _cuts(spec, effort, FAMILIES[name].lossless):
            if layout == "patch" and spec.is_quantised:
                continue
            if own == "static" and length > LONGEST_STATIC:
                continue
            for hashes in effort.static_hashes if own == "static" else effort.hashes[name]:
                for table in _tables(own, layout, length, FAMILIES[name].lossless):
                    settings = make_settings(family=name, layout=layout, L=length, H=hashes, scope=own, table=table)
                    if _fits(spec, settings, options.table_memory) and _may_pay(spec, settings):
                        found.append(settings)
    return found


def check_scope(options: CalibrationOptions) -> None:
    """Raises ConfigError where no settings of the scope that was asked for can be tried."""
    if options.scope == "static" and options.family not in (STATIC_FAMILY, "all"):
        raise ConfigError(
            f"--scope static has a centroid for each leaf of a tree: give --family {STATIC_FAMILY} instead of "
            f"{options.family}"
        )
    if options.scope == "static" and options.strategy == "papers":
        raise ConfigError("--strategy papers hashes as the papers do, without trees: give --scope batch or image")
    if options.scope not in get_args(ScopeChoice):  # as reuse-compile may have one
        raise ConfigError(
            f"--scope {options.scope} cannot be calibrated, as its results depend on what ran before: give static, "
            "whose clusters are known to every run"
        )


def _cuts(spec: ConvSpec, effort: Effort, lossless: bool) -> Iterator[tuple[Layout, int]]:
    if spec.group_in_channels < FEWEST_CHANNELS:
        yield from (("patch", length) for length in dict.fromkeys(-(-spec.columns // parts) for parts in PATCH_PARTS))
        return
    lengths = {length for length in effort.lengths if length < spec.group_in_channels}
    if lossless or spec.group_in_channels <= max(effort.lengths):
        lengths.add(spec.group_in_channels)
    yield from (("channel", length) for length in sorted(lengths, reverse=True))


def _tables(scope: Scope, layout: Layout, length: int, lossless: bool) -> Iterator[TableType]:
    # Static tables are only read and added up, four times as fast where they hold bytes.
    if scope != "static" and (lossless or layout == "patch" or length >= SHORTEST_FLOAT):
        yield "float"
    if not lossless and length <= LONGEST_INT8:
        yield "int8"


def _fits(spec: ConvSpec, settings: LayerSettings, table_memory: int) -> bool:
    """Whether memory of so many MiB holds the tables of a few such layers."""
    return table_bytes(spec, settings) <= TABLE_SHARE * table_memory * 2**20


def expected_cost(spec: ConvSpec, settings: LayerSettings, ratio: float) -> float:
    """Returns what the cost model expects of the layer, over the dense one's cost; `ratio` is r_c.

    That of static clusters is 0, but the rows of their tables that are read cost as much.
    """
    blocking, family = settings.blocking(spec), FAMILIES[settings.family]
    if settings.scope == "static":
        ratio = min(2**settings.num_hashes, blocking.vectors) / spec.rows
    return predicted_cost(
        blocking, family, settings.num_hashes, ratio, table=settings.table, scope=settings.scope
    ).total


def _may_pay(spec: ConvSpec, settings: LayerSettings) -> bool:
    """Whether the layer could gain, with as few clusters as the family is expected to make."""
    clusters = FAMILIES[settings.family].expected_clusters(settings.num_hashes)
    if settings.scope == "image":
        clusters *= spec.batch
    if settings.scope != "static" and clusters > MOST_REMAINING * settings.blocking(spec).vectors:
        return False
    return expected_cost(spec, settings, clusters / spec.rows) < MOST_EXPECTED[settings.layout]
