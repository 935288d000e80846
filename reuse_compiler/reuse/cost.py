"""The cost model: expected operations of a reuse convolution relative to the dense one (which costs 1).

Training paper Eq. 5 and 6, with the channel layout and the price of a gathered add of design section 2:

    patch:    hash/M          + r_c + g/L
    channel:  hash/(kh*kw*M)  + r_c + g/L        session scope: r_c becomes (1 - R) r_c
"""

from __future__ import annotations

from dataclasses import dataclass

from reuse_compiler.reuse.families import HashFamily
from reuse_compiler.reuse.geometry import Blocking

GATHER_COST = 4.0
"""g: price of one gathered add in multiply-adds of the dense convolution, for tables that live in the L2 cache (measured
at 2 for tables in L1 and 4 in L2 on AVX-512)."""


@dataclass(frozen=True)
class Cost:
    """Parts of the expected cost per multiply-add of the dense convolution."""

    hashing: float
    centroids: float
    gathering: float

    @property
    def total(self) -> float:
        return self.hashing + self.centroids + self.gathering


def predicted_cost(
    blocking: Blocking,
    family: HashFamily,
    num_hashes: int,
    remaining_ratio: float,
    reuse_rate: float = 0.0,
    gather_cost: float = GATHER_COST,
) -> Cost:
    """Returns the expected cost of a layer whose blocks keep `remaining_ratio` (C/N) clusters on average.

    `reuse_rate` is R of Eq. 6: the share of vectors whose cluster is known from an earlier batch.
    """
    g = blocking.geometry
    dense = g.rows * g.columns * g.group_out_channels
    if dense == 0:
        return Cost(0.0, 0.0, 0.0)
    hashed_elements = blocking.vectors * blocking.group_width
    hashing = family.operations_per_element(num_hashes, blocking.sub_vector_length) * hashed_elements / dense
    gathering = gather_cost * blocking.gathers_per_output / g.columns
    return Cost(hashing, (1.0 - reuse_rate) * remaining_ratio, gathering)


def expected_remaining_ratio(blocking: Blocking, family: HashFamily, num_hashes: int) -> float:
    """Returns an upper bound of r_c without looking at data: H bits make at most 2^H clusters, V vectors at most V."""
    rows = blocking.geometry.rows
    if rows == 0:
        return 0.0
    bound = family.max_clusters(num_hashes)
    clusters = blocking.vectors if bound is None else min(bound, blocking.vectors)
    return clusters / rows
