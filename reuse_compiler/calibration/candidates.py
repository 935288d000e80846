"""The settings that are worth measuring for a layer: those that the cost model does not rule out."""

from __future__ import annotations

from collections.abc import Iterator

from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.options import FamilyChoice
from reuse_compiler.reuse.config import LayerSettings, Scope, TableType, make_settings
from reuse_compiler.reuse.cost import predicted_cost
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec, Layout

FEWEST_CHANNELS = 4
"""Layers with fewer channels (the first one) are cut in layout `patch`."""
PATCH_PARTS = (1, 2, 3)
"""Into how many blocks the unfolded input of such a layer is cut."""
LONGEST_INT8, SHORTEST_FLOAT = 32, 16
"""The error of int8 tables pays where many rows are added, which is where vectors are short."""
MOST_EXPECTED = {"channel": 1.0, "patch": 2.0}
"""Expected cost, over the dense layer's, up to which settings are measured. The cost model takes onnxruntime's Conv at
its best speed; the layers that are cut into patches are first layers, which it computes at half of it."""
MOST_REMAINING = 0.5
"""Settings that could keep more than half of the vectors are not tried."""


def candidates(spec: ConvSpec, family: FamilyChoice, scope: Scope, effort: Effort) -> list[LayerSettings]:
    """Returns settings for the layer, least detailed first; none where the cost model expects no gain from any."""
    families = FAMILIES if family == "all" else [family]
    found = []
    for name in families:
        for layout, length in _cuts(spec, effort, FAMILIES[name].lossless):
            for hashes in effort.hashes[name]:
                for table in _tables(layout, length, FAMILIES[name].lossless):
                    settings = make_settings(family=name, layout=layout, L=length, H=hashes, scope=scope, table=table)
                    if _may_pay(spec, settings):
                        found.append(settings)
    return found


def _cuts(spec: ConvSpec, effort: Effort, lossless: bool) -> Iterator[tuple[Layout, int]]:
    if spec.group_in_channels < FEWEST_CHANNELS:
        yield from (("patch", length) for length in dict.fromkeys(-(-spec.columns // parts) for parts in PATCH_PARTS))
        return
    lengths = {length for length in effort.lengths if length < spec.group_in_channels}
    if lossless or spec.group_in_channels <= max(effort.lengths):
        lengths.add(spec.group_in_channels)
    yield from (("channel", length) for length in sorted(lengths, reverse=True))


def _tables(layout: Layout, length: int, lossless: bool) -> Iterator[TableType]:
    if lossless or layout == "patch" or length >= SHORTEST_FLOAT:
        yield "float"
    if not lossless and length <= LONGEST_INT8:
        yield "int8"


def _may_pay(spec: ConvSpec, settings: LayerSettings) -> bool:
    """Whether the layer could gain, with as few clusters as the family is expected to make."""
    blocking = settings.blocking(spec)
    family = FAMILIES[settings.family]
    clusters = family.expected_clusters(settings.num_hashes) * (spec.batch if settings.scope == "image" else 1)
    if clusters > MOST_REMAINING * blocking.vectors:
        return False
    cost = predicted_cost(blocking, family, settings.num_hashes, clusters / spec.rows, table=settings.table)
    return cost.total < MOST_EXPECTED[settings.layout]
