"""The least time of a reuse layer: operations and bytes that no implementation can do without, over measured peaks.

Bytes in the caches are counted at the speed of copies within L2; tables that fit into L1 can beat that, and centroid
products in 8-bit integers can beat the float peak, so a stage may come out a little below its floor.
"""

from __future__ import annotations

from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.inputs import LayerInput
from reuse_compiler.benchmark.report import Floor, FloorStage, MachinePeaks
from reuse_compiler.reuse.error_bound import reads
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.static_tables import ELEMENT_BYTES

FLOAT_BYTES, ID_BYTES = 4, 4
ADDS_PER_LANE = {"float": 1, "int8": 2}
"""Sums of int8 entries are 16 bits wide, so that a vector register holds twice as many as of float."""


def compute_floor(case: ConvCase, data: LayerInput, peaks: MachinePeaks) -> Floor:
    """Returns the floor of a case whose blocks have the clusters that `data` says."""
    g, blocking, family = case.spec, case.blocking, FAMILIES[case.family]
    lengths = [blocking.block_length(block) for block in range(blocking.num_blocks)]
    elements = blocking.vectors * sum(lengths)
    entry, kept = ELEMENT_BYTES[case.table], case.scope != "batch"
    tables = entry * sum(data.clusters) * blocking.table_width
    adds = _added_rows(case) * g.group_out_channels
    ids = ID_BYTES * blocking.vectors * blocking.num_blocks

    hashed = elements * family.operations_per_element(data.num_hashes, blocking.sub_vector_length)
    # A window of the patch layout is put together from pixels in the cache; a pixel's vector is read where it is.
    unfolded = FLOAT_BYTES * elements if blocking.layout == "patch" else 0
    stages = {
        "hash": _stage(peaks, hashed, unfolded, g.input_bytes),
        # The members' mean: one addition per element. A lossless family takes the first member.
        "cluster": _stage(peaks, 0 if family.lossless or kept else elements, ids, 0),
        "gemm": _stage(peaks, centroid_multiply_adds(case, data), 0 if kept else tables, 0 if kept else g.weight_bytes),
        # Tables that are kept come from memory.
        "gather": _stage(peaks, adds / ADDS_PER_LANE[case.table], entry * adds, g.output_bytes + tables * kept),
    }
    dense = _stage(peaks, case.spec.multiply_adds, 0, g.input_bytes + g.weight_bytes + g.output_bytes)
    return Floor(dense_ms=dense.ms, **stages, total_ms=sum(stage.ms for stage in stages.values()))


def centroid_multiply_adds(case: ConvCase, data: LayerInput) -> int:
    """Multiply-adds of all centroids with their blocks' weights; none where their products are kept."""
    if case.scope != "batch":
        return 0
    blocking = case.blocking
    products = sum(count * blocking.block_length(block) for block, count in enumerate(data.clusters))
    return products * blocking.table_width


def _added_rows(case: ConvCase) -> int:
    """Table rows (of a group's output channels) that are added in a run; taps outside the image add none."""
    g, blocking = case.spec, case.blocking
    if blocking.layout == "patch":
        return g.rows * blocking.num_blocks
    return int(g.batch * reads(g, 0).sum() * reads(g, 1).sum() * blocking.num_blocks)


def _stage(peaks: MachinePeaks, multiply_adds: float, cached_bytes: float, memory_bytes: float) -> FloorStage:
    seconds = max(
        multiply_adds / peaks.multiply_adds_per_second,
        cached_bytes / peaks.cached_bytes_per_second,
        memory_bytes / peaks.memory_bytes_per_second,
    )
    return FloorStage(
        multiply_adds=multiply_adds, cached_bytes=cached_bytes, memory_bytes=memory_bytes, ms=1e3 * seconds
    )
