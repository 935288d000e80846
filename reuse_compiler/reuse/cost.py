"""The cost model: expected operations of a reuse convolution relative to the dense one (which costs 1).

These are the training paper's Eq. 5 and 6, extended by the layout `channel` and by prices:

    patch:    hash/M          + c r_c + g/L + i/M         + o/K
    channel:  hash/(kh*kw*M)  + c r_c + g/L + i/(kh*kw*M) + o/K

With cluster reuse across batches, r_c becomes (1 - R) r_c. The papers' formulas count arithmetic only: c = g = 1 and
i = o = 0. The last two terms are what they leave out, and they decide for small layers: every element of a neuron
vector is read, hashed and summed into a centroid once (i), and every output element is written once (o).

With scope static R is 1, nothing is summed, and every byte of the kept tables is read once from memory (t). These are
r_c N rows of T entries in each block:

    channel:  hash/(kh*kw*M)  + g/L + t bytes r_c/L + i/(kh*kw*M) + o/K
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reuse_compiler.reuse.config import Scope, TableType
from reuse_compiler.reuse.families import HashFamily
from reuse_compiler.reuse.families.trees import is_rotated
from reuse_compiler.reuse.geometry import Blocking, ByteOperator
from reuse_compiler.reuse.static_tables import ELEMENT_BYTES

CENTROID_COST = 1.3
"""c: the price of a multiply-add with a centroid. It is above 1, since these are products of changing size that are
written to a table, where the dense convolution is one long stream."""

GATHER_COST = 2.4
"""g: the price of adding one gathered entry, in multiply-adds of the dense convolution; tables lie in the L2 cache."""

INT8_GATHER_COST = 0.7
"""g, if the entries of the tables are int8."""

INPUT_PASS_COST = 65.0
"""i: the price of reading an element, for hashing and for adding it to its centroid, in multiply-adds likewise."""

WINDOW_PASS_COST = 50.0
LONGEST_WINDOW = 64
"""In the layout patch, i is WINDOW_PASS_COST for vectors of up to LONGEST_WINDOW elements: the kernels unfold, hash and
sum those in one pass."""

HASH_PASS_COST = 25.0
"""i with scope static: elements are read and hashed, but not summed."""

GATHER_COSTS: dict[TableType, float] = {"float": GATHER_COST, "int8": INT8_GATHER_COST}
STATIC_GATHER_COST: dict[TableType, float] = {"float": GATHER_COST, "int8": 0.95}
"""g with scope static: of int8 tables it is less, as a whole layer has one scale and its sums stay integers."""

TABLE_BYTE_COST = 4.9
"""t: the price of reading a byte of a kept table, in multiply-adds likewise."""

OUTPUT_PASS_COST = 40.0
"""o: the price of transposing and writing an output element, in multiply-adds likewise.

All prices were measured with the CPU kernels of this version on one AVX-512 core (docs/performance.md), beside
onnxruntime's Conv at 55e9 multiply-adds per second: 0.04 ns an add (0.012 ns with int8), 0.7 to 1.7 ns an element read
(least for long vectors; 0.8 to 0.9 ns in windows of up to 64), 0.7 ns one written. Those of scope static were fitted
to the speed-ups of `python -m tools.goals --static` on a core whose memory gives 10 GB/s.
`python -m tools.goals` compares predictions with measured speed-ups."""


@dataclass(frozen=True)
class Prices:
    """What the formula's symbols stand for, in multiply-adds of the dense convolution."""

    centroid: float
    gather: float
    input_pass: float
    output_pass: float
    dense_pass: float = 0.0
    """What the dense convolution takes for each element that it writes, beside its multiply-adds."""
    new_cluster: float = 0.0
    """Of a cluster, whatever its size: finding that it is new, and keeping it."""
    table_byte: float = TABLE_BYTE_COST
    """Of reading a byte of a kept table."""
    hash: float = 1.0
    """Of an operation of the hash."""


ARITHMETIC = Prices(1.0, 1.0, 0.0, 0.0)
"""The papers' count."""

QUANTISED = Prices(centroid=1.05, gather=2.0, input_pass=30.0, output_pass=185.0, dense_pass=60.0, new_cluster=10000.0)
"""Of a convolution of bytes, in multiply-adds of onnxruntime's QLinearConv, 5.1e11 a second on an AVX-512 core with
VNNI: 0.06 ns an element read, 0.36 ns one written, 0.12 ns one that QLinearConv writes, and 20 ns a distinct vector
with its windows, of which a page has about 1.3. Fitted to 84 layers of two networks on pages, letterboxed photos and
photos; half of the predictions are within 6%."""

STATIC_BYTES = Prices(
    centroid=1.3, gather=2.8, input_pass=20.0, output_pass=46.0, dense_pass=60.0, table_byte=14.5, hash=80.0
)
"""Of static clusters of bytes, likewise: 0.005 ns an entry, 0.03 ns a byte of a table, 0.04 ns an element read, 0.16 ns
a level of a vector's tree, 0.09 ns an element written. Fitted to what `reuse-bench conv --quantised --scope static`
says of 44 layers, of 64 to 512 channels in vectors of 4 to 32."""

CODED_BYTES = replace(STATIC_BYTES, centroid=2.4, table_byte=60.0)
"""Of a run's own clusters of bytes, likewise: a product is computed twice, once for the scale, and 0.1 ns an entry that
is looked at and written come on top of what static clusters take."""

MEMBER = 2000.0
"""Of adding a vector to the sums of its cluster, likewise: 4 ns."""

ROTATION = 100.0
"""Of turning an element of such a vector before its tree, likewise: 0.2 ns. Short vectors are turned."""

TIMES_QLINEAR_CONV: dict[ByteOperator, float] = {"QLinearConv": 1.0, "Conv": 3.0, "ConvInteger": 16.0}
"""How many times as long onnxruntime's other operators take: of 256->256, 3x3, on 56x56 pixels, QLinearConv does 2.4e11
multiply-adds a second on an AVX-512 core, Conv 0.8e11 and ConvInteger 0.14e11."""

STREAM = Prices(centroid=1.3, gather=0.0, input_pass=46.0, output_pass=46.0, dense_pass=80.0)
"""Of one that goes on from its last run, likewise: an element and the last one are read, 0.2 ns; so is the last result
where nothing has changed, and written again. What takes the place of r_c is the share of windows that changed."""

CHANGED_SHARE = 0.3
"""What is expected of a stream of which nothing else is known: parts of a fixed camera's picture move."""


@dataclass(frozen=True)
class Cost:
    """The expected cost of a layer, by its parts, for each multiply-add of the dense convolution."""

    hashing: float
    centroids: float
    gathering: float
    passes: float

    @property
    def total(self) -> float:
        return self.least + self.centroids

    @property
    def least(self) -> float:
        """What is left of it where all vectors are equal."""
        return self.hashing + self.gathering + self.passes


def predicted_cost(
    blocking: Blocking,
    family: HashFamily,
    num_hashes: int,
    remaining_ratio: float,
    reuse_rate: float = 0.0,
    prices: Prices | None = None,
    table: TableType = "float",
    scope: Scope = "batch",
) -> Cost:
    """Returns the expected cost of a layer whose blocks keep `remaining_ratio` (C/N) clusters on average.

    `reuse_rate` is R of Eq. 6: the share of vectors whose cluster is known from an earlier batch. With scope static R
    is 1.
    """
    static, g = scope == "static", blocking.spec
    coded = g.is_quantised and not family.lossless
    if prices is None:
        prices = measured_prices(blocking, table, scope, coded)
    dense = g.columns + prices.dense_pass  # for each output
    outputs = g.rows * g.group_out_channels
    if outputs * g.columns == 0:
        return Cost(0.0, 0.0, 0.0, 0.0)
    hashed_elements = blocking.vectors * blocking.group_width / outputs
    hashing = prices.hash * family.operations_per_element(num_hashes, blocking.sub_vector_length) * hashed_elements
    gathering = prices.gather * blocking.gathers_per_output
    passes = prices.input_pass * hashed_elements + prices.output_pass
    if static:
        reuse_rate = 1.0
    if static or coded:
        entries = remaining_ratio * g.rows * blocking.blocks_per_group * blocking.table_width
        gathering += prices.table_byte * ELEMENT_BYTES[table] * entries / outputs
    new_clusters = (1.0 - reuse_rate) * remaining_ratio
    own = prices.new_cluster * blocking.blocks_per_group / g.group_out_channels
    centroids = new_clusters * (prices.centroid * g.columns + own)
    return Cost(hashing / dense, centroids / dense, gathering / dense, passes / dense)


def measured_prices(blocking: Blocking, table: TableType, scope: Scope, coded: bool = False) -> Prices:
    """Returns the prices of a layer's element type, layout, table and scope; `coded`: bytes that are hashed."""
    length = blocking.sub_vector_length
    if coded:
        own = STATIC_BYTES if scope == "static" else CODED_BYTES
        member = 0.0 if scope == "static" else MEMBER / length
        return replace(own, input_pass=own.input_pass + member + (ROTATION if is_rotated(length) else 0.0))
    if blocking.spec.is_quantised:
        times = TIMES_QLINEAR_CONV[blocking.spec.bytes_by]
        return Prices(**{name: price / times for name, price in vars(QUANTISED).items()})
    one_pass = blocking.layout == "patch" and blocking.sub_vector_length <= LONGEST_WINDOW
    if scope == "static":
        gather, whole = STATIC_GATHER_COST[table], HASH_PASS_COST
    else:
        gather, whole = GATHER_COSTS[table], INPUT_PASS_COST
    return Prices(CENTROID_COST, gather, WINDOW_PASS_COST if one_pass else whole, OUTPUT_PASS_COST)


def counted_operations(
    blocking: Blocking, family: HashFamily, num_hashes: int, remaining_ratio: float, reuse_rate: float = 0.0
) -> float:
    """Returns the operations of a layer over the dense one's as the papers count them (Eq. 5 and 6): all cost 1."""
    return predicted_cost(blocking, family, num_hashes, remaining_ratio, reuse_rate, ARITHMETIC).total


def expected_remaining_ratio(blocking: Blocking, family: HashFamily, num_hashes: int) -> float:
    """Returns an upper bound of r_c without looking at data: H bits make at most 2^H clusters, V vectors at most V."""
    rows = blocking.spec.rows
    if rows == 0:
        return 0.0
    bound = family.max_clusters(num_hashes)
    clusters = blocking.vectors if bound is None else min(bound, blocking.vectors)
    return clusters / rows
