"""What the tables of scope static take (docs/operators.md, Static tables)."""

from __future__ import annotations

from reuse_compiler.reuse.config import LayerSettings, TableType
from reuse_compiler.reuse.geometry import ConvSpec

ELEMENT_BYTES: dict[TableType, int] = {"float": 4, "int8": 1}
TILE_CHANNELS = 64
"""The output channels of a group are padded to a multiple of this,"""
FEW_CHANNELS = 16
"""or, where float tables have fewer, of this."""


def table_bytes(spec: ConvSpec, settings: LayerSettings) -> int:
    """Returns the bytes of a layer's tables, 0 for another scope, which has none between runs."""
    if settings.scope != "static":
        return 0
    blocking = settings.blocking(spec)
    narrow = settings.table == "float" and spec.group_out_channels < TILE_CHANNELS
    multiple = FEW_CHANNELS if narrow else TILE_CHANNELS
    channels = -(-spec.group_out_channels // multiple) * multiple
    rows = blocking.num_blocks * ((1 << settings.num_hashes) + 1)  # and one of zeros
    return rows * blocking.taps_per_block * channels * ELEMENT_BYTES[settings.table]
