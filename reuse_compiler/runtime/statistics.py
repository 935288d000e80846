"""What the operators of a session have counted, per node."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from reuse_compiler.runtime.library import load_library
from reuse_compiler.runtime.sessions import tag_of

if TYPE_CHECKING:
    import onnxruntime


class StageSeconds(BaseModel):
    """Time spent per stage, in seconds, summed over runs (and over threads where a stage runs on several)."""

    model_config = ConfigDict(frozen=True)

    hash: float = 0.0
    cluster: float = 0.0
    gemm: float = 0.0
    gather: float = 0.0


class NodeStatistics(BaseModel):
    """Counts of one node since its session was made or its statistics were reset."""

    model_config = ConfigDict(frozen=True)

    node: str
    op: Literal[
        "ReuseConv",
        "Hash",
        "Cluster",
        "CentroidGemm",
        "Gather",
        "QLinearReuseConv",
        "ReuseConvInteger",
        "MaxPool",
        "AveragePool",
        "Redundancy",
        "Hold",
    ]
    tf32: bool | None = None
    """Whether float32 products were allowed to be rounded to TF32 on CUDA.

    None where there is no such choice (on the CPU, with float16, in nodes without products), before the first run, and
    where onnxruntime did not tell, in which case they were not.
    """
    runs: int
    blocks: int
    """Blocks of neuron vectors, as the layer has them."""
    rows: int
    """Rows of the unfolded input (N), summed over runs."""
    vectors: int
    """Neuron vectors, summed over runs and blocks."""
    clusters: int
    """Clusters, summed over runs and blocks."""
    guarded: int
    """Vectors computed on their own, as the capacity was used up or they were not finite; summed likewise."""
    known: int = 0
    """Vectors that took a kept cluster of scope session; summed likewise."""
    last_reuse_rate: float = 0.0
    """R of the last run: the share of its vectors that took a kept cluster."""
    kept_clusters: int = 0
    """Clusters that scope session keeps now, of all blocks."""
    state_bytes: int = 0
    """What these count for, or the ids and sums of an incremental node, or the images of a Hold, in bytes."""
    table_bytes: int = 0
    """Tables that scope static keeps from run to run; sessions with equal layers share them."""
    changed: int = 0
    """Vectors of incremental nodes with another id than in the last run, summed over runs and blocks.

    Of a Hold, whose `vectors` are pixels: those that took a new value in runs in which one was held.
    """
    recomputed: int = 0
    """Rows of their output whose sums were made anew, in runs that had kept ones; summed over runs."""
    anew: int = 0
    """Their runs that had no kept sums to begin with, or no held images."""
    seconds: StageSeconds
    scratch_bytes: int
    """Working memory of a run, in bytes."""

    @property
    def remaining_ratio(self) -> float | None:
        """r_c: clusters per row of the unfolded input, mean over blocks and runs; None if no row was clustered."""
        return self.clusters / (self.blocks * self.rows) if self.blocks * self.rows and self.clusters else None

    @property
    def reuse_rate(self) -> float | None:
        """R: the share of vectors that took a kept cluster, over all runs; None if there were no vectors."""
        return self.known / self.vectors if self.vectors else None


_NODES = TypeAdapter(list[NodeStatistics])


def statistics(session: onnxruntime.InferenceSession) -> list[NodeStatistics]:
    """Returns the counts of every reuse node of a session made by `reuse_compiler.session`.

    A name in the model that is not UTF-8 has an escape such as \\xff in place of each byte that does not fit.
    Sessions on which the library was registered by hand share one list, unless they were given the configuration
    entry `ai.reuse.session` before.
    """
    library, tag = load_library(), tag_of(session.get_session_options()).encode()
    size = library.reuse_statistics_json(tag, None, 0)
    while True:
        buffer = ctypes.create_string_buffer(size)
        needed = library.reuse_statistics_json(tag, buffer, size)
        if needed <= size:
            return _NODES.validate_json(buffer.value)
        size = needed  # another thread ran the session in between and its numbers grew


def remaining_ratios(session: onnxruntime.InferenceSession) -> dict[str, float]:
    """Returns r_c by the name of each node that has clustered something."""
    return {node.node: node.remaining_ratio for node in statistics(session) if node.remaining_ratio is not None}


def reset_statistics(session: onnxruntime.InferenceSession) -> None:
    """Sets the counts of every reuse node of the session to zero."""
    load_library().reuse_statistics_reset(tag_of(session.get_session_options()).encode())


def reset_clusters(session: onnxruntime.InferenceSession) -> None:
    """Forgets all that nodes keep between runs, as if the session were new; runs in progress go on.

    That is the clusters of scope session, the sums of incremental nodes, and the images that a Hold holds.
    """
    load_library().reuse_reset_clusters(tag_of(session.get_session_options()).encode())
