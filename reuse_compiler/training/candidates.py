"""The settings that training goes through: ranges by Policies 1 and 2, their order by Policy 3 (training paper V-A)."""

from __future__ import annotations

from collections.abc import Sequence

from reuse_compiler.reuse.config import FamilyName, LayerSettings, TableType, make_settings
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from reuse_compiler.reuse.policies import num_hashes_range, sub_vector_length_range

CHANNELS_WORTH_SHARING = 8
"""From so many channels per group on, layout `auto` is `channel`: below, its vectors are too short to pay."""


def choose_layout(spec: ConvSpec) -> Layout:
    """Returns the layout that costs less: clusters of pixels are shared by all taps that read them."""
    return "channel" if spec.group_in_channels >= CHANNELS_WORTH_SHARING else "patch"


def sub_vector_lengths(spec: ConvSpec, layout: Layout, first_layer: bool) -> list[int]:
    """Returns the L of Policy 1 and Amendment 1, descending.

    The ends of the range are multiples of the kernel's width, and so are the steps. In layout `channel` L counts
    channels of one pixel: those lengths of the range (as far as there are channels) that cut them evenly, and the next
    shorter one if there are none.
    """
    smallest, largest = sub_vector_length_range(spec, first_layer)
    if layout == "patch":
        step = spec.kernel[1]
        return sorted({min(length, largest) for length in range(smallest, largest + step, step)}, reverse=True)
    channels = spec.group_in_channels
    even = {-(-channels // blocks) for blocks in range(1, channels + 1)}
    found = [length for length in even if smallest <= length <= largest]
    return sorted(found or [max(length for length in even if length <= max(largest, min(even)))], reverse=True)


def numbers_of_hashes(spec: ConvSpec, family: FamilyName) -> list[int]:
    """Returns the H of Policy 2, ascending, as far as the family takes them."""
    smallest, largest = num_hashes_range(spec.rows)
    most = FAMILIES[family].max_hashes
    return list(range(min(smallest, most), min(largest, most) + 1))


def policy3(lengths: Sequence[int], hashes: Sequence[int], out_channels: int, taps: int = 1) -> list[tuple[int, int]]:
    """Returns {L, H} in the order of Policy 3, from the cheapest to the most exact.

    Of the next smaller L (Eq. 22: 1/L' - 1/L) and the next larger H (Eq. 23: (H' - H)/M) comes first what adds less
    time. `taps` is kh*kw in layout `channel`, where a pixel is hashed once for all of them, else 1.
    """
    i = j = 0
    found = [(lengths[0], hashes[0])]
    while i + 1 < len(lengths) or j + 1 < len(hashes):
        shorter = 1.0 / lengths[i + 1] - 1.0 / lengths[i] if i + 1 < len(lengths) else float("inf")
        more = (hashes[j + 1] - hashes[j]) / (out_channels * taps) if j + 1 < len(hashes) else float("inf")
        if shorter <= more:
            i += 1
        else:
            j += 1
        found.append((lengths[i], hashes[j]))
    return found


def candidates(
    spec: ConvSpec,
    first_layer: bool,
    family: FamilyName = "sign",
    layout: Layout | None = None,
    table: TableType = "float",
    finest: tuple[int, int] | None = None,
) -> list[LayerSettings]:
    """Returns the settings of a layer in the order in which training goes through them.

    `finest` are {L, H} beyond which nothing is tried: where a step would take longer than without reuse. The largest L
    and the smallest H are always there.
    """
    chosen = layout or choose_layout(spec)
    lengths, hashes = sub_vector_lengths(spec, chosen, first_layer), numbers_of_hashes(spec, family)
    if finest is not None:
        lengths = [own for own in lengths if own >= finest[0]] or lengths[:1]
        hashes = [own for own in hashes if own <= finest[1]] or hashes[:1]
    pairs = policy3(
        lengths,
        hashes,
        spec.group_out_channels,
        spec.taps if chosen == "channel" else 1,
    )
    return [make_settings(family=family, layout=chosen, L=length, H=hashes, table=table) for length, hashes in pairs]
