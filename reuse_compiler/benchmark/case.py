"""One convolution to measure and the reuse asked of it: shapes, settings and how redundant its input shall be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import MOST_STATIC_HASHES, LayerSettings, TableType, make_settings
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Blocking, ConvSpec, Layout

BenchFamily = Literal["learned", "sign", "exact"]
BenchScope = Literal["batch", "session", "static"]
Order = Literal["local", "random"]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
Shape = tuple[int, int, int, int]

SPARE_BITS = {"learned": 0, "sign": 6, "exact": 0}
"""Hash bits beyond log2 of the distinct vectors, where the user gives none: random hyperplanes separate unevenly."""


@dataclass(frozen=True)
class ConvCase:
    """What to measure. Made by `make_case`, which checks that it is possible."""

    blocking: Blocking
    family: BenchFamily
    num_hashes: int | None
    """H (--bits); None: enough for every distinct vector to get a code of its own."""
    remaining_ratio: float
    """r_c asked for: distinct vectors of a block per row of the unfolded input."""
    order: Order
    table: TableType = "float"
    seed: int = 0
    scope: BenchScope = "batch"

    @property
    def spec(self) -> ConvSpec:
        """The layer."""
        return self.blocking.spec

    @property
    def distinct(self) -> int:
        """Distinct vectors per block that are asked for."""
        return round(self.remaining_ratio * self.spec.rows)

    def hashes_for(self, distinct: int) -> int:
        """Returns H: the user's, or what should do for `distinct` vectors of a block."""
        family = FAMILIES[self.family]
        if family.lossless:
            return 1
        if self.num_hashes is not None:
            return self.num_hashes
        most = MOST_STATIC_HASHES if self.scope == "static" else family.max_hashes
        return min(most, math.ceil(math.log2(max(distinct, 2))) + SPARE_BITS[self.family])

    def settings(self, num_hashes: int) -> LayerSettings:
        """Returns the layer's settings; raises ConfigError for those that no layer can have."""
        return make_settings(
            family=self.family,
            layout=self.blocking.layout,
            L=self.blocking.sub_vector_length,
            H=num_hashes,
            scope=self.scope,
            table=self.table,
        )

    def __str__(self) -> str:
        g = self.spec
        batch = f", batch {g.batch}" if g.batch > 1 else ""
        group = f", {g.group} groups" if g.group > 1 else ""
        return (
            f"{g.in_channels}->{g.out_channels}, {g.kernel[0]}x{g.kernel[1]}{batch}, {g.in_height}x{g.in_width}{group}"
        )


def make_case(
    *,
    input_shape: Shape,
    weight_shape: Shape,
    sub_vector_length: int,
    remaining_ratio: float,
    num_hashes: int | None = None,
    strides: Pair = (1, 1),
    pads: Pads | None = None,
    dilations: Pair = (1, 1),
    group: int = 1,
    family: BenchFamily = "learned",
    layout: Layout | Literal["auto"] = "auto",
    order: Order = "local",
    table: TableType = "float",
    scope: BenchScope = "batch",
    seed: int = 0,
) -> ConvCase:
    """Checks a layer and its settings, and fills in what was left open.

    `input_shape` is [N, Ic, H, W], `weight_shape` [M, Ic/group, kh, kw], `pads` begin h, begin w, end h, end w; without
    them the output is as large as the input at stride 1 and an odd kernel. Raises ConfigError for what cannot be.
    """
    kernel = weight_shape[2:]
    if pads is None:
        half = tuple(dilation * (size - 1) // 2 for dilation, size in zip(dilations, kernel, strict=True))
        pads = (half[0], half[1], half[0], half[1])
    _check_layer(input_shape, weight_shape, (*strides, *dilations, group), pads)
    spec = ConvSpec.of(input_shape, weight_shape, strides, pads, dilations, group)
    if spec.rows == 0:
        raise ConfigError(
            f"the output is empty: a kernel {_times(kernel)} does not fit an input of {_times(input_shape[2:])} "
            f"with pads {','.join(map(str, pads))}"
        )
    if layout == "auto":
        layout = "channel" if spec.group_in_channels % sub_vector_length == 0 else "patch"
    blocking = Blocking(spec, layout, sub_vector_length)
    if sub_vector_length > blocking.group_width:
        what = "columns of the unfolded input (kh*kw*Ic/group)" if layout == "patch" else "channels of a group"
        raise ConfigError(
            f"--L {sub_vector_length} is larger than the {blocking.group_width} {what}: give a smaller one"
        )
    largest = FAMILIES[family].max_hashes
    if num_hashes is not None and not 1 <= num_hashes <= largest:
        raise ConfigError(f"--bits {num_hashes}: family {family} takes 1 to {largest}")
    case = ConvCase(blocking, family, num_hashes, remaining_ratio, order, table, seed, scope)
    _check_ratio(case)
    case.settings(case.hashes_for(case.distinct))
    return case


def _check_layer(x: Shape, weight: Shape, sizes: tuple[int, ...], pads: Pads) -> None:
    """Raises ConfigError for impossible shapes; `sizes` are strides, dilations and the group."""
    group = sizes[-1]
    if min(sizes) < 1 or min(pads) < 0:
        raise ConfigError("--stride, --dilation and --group must be at least 1 and --pad at least 0")
    if weight[1] * group != x[1]:
        raise ConfigError(
            f"the input has {x[1]} channels, but weights {_times(weight)} in {group} group(s) read "
            f"{weight[1] * group}: --weight is M x Ic/group x kh x kw"
        )
    if weight[0] % group:
        raise ConfigError(f"{weight[0]} output channels cannot be divided into --group {group}")


def _check_ratio(case: ConvCase) -> None:
    rows, vectors = case.spec.rows, case.blocking.vectors
    if not math.isfinite(case.remaining_ratio) or case.distinct < 1:
        raise ConfigError(
            f"--remaining-ratio {case.remaining_ratio:g} of the {rows} rows of the unfolded input is not even one "
            f"distinct vector: give at least {1 / rows:.2g}"
        )
    if case.distinct > vectors:
        raise ConfigError(
            f"--remaining-ratio {case.remaining_ratio:g} asks for {case.distinct} distinct vectors, but a block has "
            f"only {vectors}: give at most {vectors / rows:g}"
        )


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
