"""Cuts the main graph between few and small tensors into segments whose layers are decided about together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

import onnx

from reuse_compiler.graph.structure import given_inputs, initialized, reads_of
from reuse_compiler.passes.check_quantised import BYTES
from reuse_compiler.passes.keep_pixel_major import BINARY, UNARY
from reuse_compiler.passes.layer import ConvLayer, Layer, Prepared
from reuse_compiler.regions.windows import CONVERSIONS, Window, windows_of

ELEMENT_BYTES = 4
MULTIPLY_ADDS_PER_BYTE = 25.0
"""What a byte at a border costs, in multiply-adds of a dense convolution: onnxruntime rearranges it to its blocked
order and back (measured on CRAFT with five borders: 0.4 ns for each byte, beside 55e9 multiply-adds a second)."""
LARGEST_SHARE = 0.05
"""Of the work of the segments on both sides of a border, what the border may cost."""
CHEAP_SHARE = 0.0025
"""Of all work in front, what the border behind the last candidate may cost: all runs pay for it."""
MOST_SEGMENTS = 6
LARGEST_WINDOW = 32
"""The side of the largest window that is looked at: larger ones seldom repeat."""
TEST_SHARE = 0.01
"""Of a segment's work, what deciding about it may cost."""
MULTIPLY_ADDS_PER_TEST = 1.5e6
MULTIPLY_ADDS_PER_VALUE = 60.0
"""What deciding costs, in multiply-adds: the nodes themselves (30 us), and each sampled value."""
SAMPLES, MOST_SAMPLES, SAMPLED_CHANNELS = 256, 4096, 8
"""Windows in a sample, at least and at most, and channels that are looked at: the operator's default."""
SAMPLE_SHARE = 0.003
"""Of the work, what a sample of more than the fewest windows may cost."""
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add")
"""What onnxruntime joins with an elementwise operator behind it; no border may come between."""
ELEMENTWISE = (*UNARY, *BINARY, "BatchNormalization")


@dataclass(frozen=True)
class Segment:
    """Some consecutive nodes of the main graph, and the layers among them that may use reuse."""

    start: int
    stop: int
    """The nodes are those from `start` to `stop` excluded."""
    source: str
    """The tensor in whose sample repetitions are counted."""
    windows: Mapping[str, Window]
    """By layer: the pixels of the source that decide about a neuron vector."""
    channels: int
    """Of the source, that are looked at."""
    work: float
    """Multiply-adds of its convolutions."""

    @property
    def nodes(self) -> range:
        """The indices of its nodes."""
        return range(self.start, self.stop)


@dataclass(frozen=True)
class Segments:
    """The part of the main graph that gets two forms: from the first convolution to `stop` excluded."""

    parts: Sequence[Segment]
    stop: int
    windows: Mapping[str, Window]
    """By layer of any part, as far as they are small: the pixels of the first part's source."""


def affordable_samples(sides: Sequence[int], channels: int, work: float) -> int:
    """Returns how many windows of these sides can be looked at for a small share of the work."""
    values = channels * sum(side**2 for side in sides)
    return int(min(max(SAMPLE_SHARE * work / (MULTIPLY_ADDS_PER_VALUE * values), SAMPLES), MOST_SAMPLES))


class Flow:
    """What the nodes of a main graph, in order, read and compute that is not the same in every run."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes: Sequence[onnx.NodeProto] = list(graph.node)
        self.fixed = initialized(graph)
        """The tensors that are the same in every run."""
        varying = {value.name for value in given_inputs(graph)}
        self.producer: dict[str, int] = {}
        """By computed tensor that varies: its node."""
        self.reads: list[set[str]] = []
        """By node: the varying tensors that it reads, in its bodies too."""
        self.sorted = True
        """Whether every node stands behind those whose results it reads."""
        for index, node in enumerate(self.nodes):
            read = set(reads_of(node))
            self.sorted &= read <= varying | self.fixed
            self.reads.append(read & varying)
            if self.reads[-1] or node.op_type.startswith("Random"):
                varying |= set(node.output)
                self.producer |= {name: index for name in node.output if name}
            else:
                self.fixed |= set(node.output)
        self._last_read = {name: index for index, read in enumerate(self.reads) for name in read}
        self._last_read |= {value.name: len(self.nodes) for value in graph.output}

    def crossings(self) -> Iterator[list[str]]:
        """Yields for each node the varying tensors that others before it compute and it or later ones read."""
        crossing: list[str] = []
        for index, node in enumerate(self.nodes):
            yield crossing
            computed = [name for name in node.output if name in self.producer]
            crossing = [name for name in (*crossing, *computed) if self._last_read.get(name, -1) > index]

    def inputs(self, start: int, stop: int) -> list[str]:
        """Returns the varying tensors that nodes read which none of them computes, in the order of their names."""
        read = set[str]().union(*self.reads[start:stop])
        return sorted(name for name in read if not start <= self.producer.get(name, -1) < stop)

    def outputs(self, start: int, stop: int) -> list[str]:
        """Returns the varying tensors that nodes compute and later ones, or the user, read."""
        computed = (name for node in self.nodes[start:stop] for name in node.output if name in self.producer)
        return [name for name in computed if self._last_read.get(name, -1) >= stop]


def cut_into_segments(prepared: Prepared, candidates: Sequence[ConvLayer], flow: Flow) -> Segments | None:
    """Returns the segments that hold the candidates, or None if there is none that can be looked at.

    Candidates whose input is not known by a small window of their segment's source are in no segment's windows.
    """
    if not candidates or not flow.sorted:
        return None
    return _Cutter(prepared, candidates, flow).cut()


class _Cutter:
    def __init__(self, prepared: Prepared, candidates: Sequence[ConvLayer], flow: Flow) -> None:
        self._flow = flow
        self._shapes = prepared.shapes
        declared = prepared.declarations[()]
        self._elements = {name: value.type.tensor_type.elem_type for name, value in declared.items()}
        spans = [_span(layer) for layer in prepared.layers if layer.in_main]
        self._candidates = {layer.ref.index: layer for layer in candidates}
        self._last = max(_span(layer)[1] for layer in candidates)
        self._first = self._before_conversions(min(start for start, _ in spans))
        self._inside = {position for start, stop in spans for position in range(start + 1, stop)}
        """Positions before a node that belongs to the layer in front."""
        work = {layer.ref.index: layer.spec.multiply_adds for layer in prepared.convolutions.values() if layer.in_main}
        indices = range(len(flow.nodes))
        self._work = list(accumulate((work.get(index, 0) for index in indices), initial=0))
        """Multiply-adds before each node, and those of the candidates."""
        self._own_work = list(accumulate((work[i] if i in self._candidates else 0 for i in indices), initial=0))
        self._crossings = [*flow.crossings(), []]
        self._last_joined = _last_joined(flow)
        self._bytes_nearby = _bytes_nearby(flow, self._elements)

    def cut(self) -> Segments | None:
        stop = self._stop()
        borders = self._borders(stop)
        segments = [self._segment(*ends) for ends in pairwise(borders)]
        found = [segment for segment in segments if segment is not None]
        return Segments(found, stop, self._seen(found[0].source, found[0].start, stop)) if found else None

    def _before_conversions(self, position: int) -> int:
        """Returns the position before the nodes that only convert what those from a position on read."""
        for name in self._flow.inputs(position, len(self._flow.nodes)):
            producer = self._flow.producer.get(name)
            if producer is not None and self._flow.nodes[producer].op_type in CONVERSIONS:
                return self._before_conversions(min(position, producer))
        return position

    def _stop(self) -> int:
        """Returns the first border behind all candidates that costs next to nothing, or the end of the graph."""
        end = len(self._flow.nodes)
        allowed = filter(self._allowed, range(self._last, end))
        return next((p for p in allowed if self._cost(p) <= CHEAP_SHARE * self._work[p]), end)

    def _borders(self, stop: int) -> list[int]:
        """Returns where segments begin and end; borders between small tensors are taken first."""
        borders = [self._first, stop]
        costs = {p: self._cost(p) for p in range(self._first + 1, stop) if self._allowed(p)}
        for position in sorted(costs, key=costs.__getitem__):
            if len(borders) > MOST_SEGMENTS:
                break
            before, after = max(b for b in borders if b < position), min(b for b in borders if b > position)
            sides = (before, position), (position, after)
            if position not in borders and all(self._is_worth(*side, costs[position]) for side in sides):
                borders.append(position)
        return sorted(borders)

    def _is_worth(self, start: int, stop: int, cost: float) -> bool:
        return cost <= LARGEST_SHARE * (self._own_work[stop] - self._own_work[start])

    def _allowed(self, position: int) -> bool:
        """Tells whether a border may stand before a node: nothing that belongs together lies on both sides."""
        return position not in self._inside and all(
            self._last_joined.get(name, -1) < position and name not in self._bytes_nearby
            for name in self._crossings[position]
        )

    def _cost(self, position: int) -> float:
        """Returns what a border costs, in multiply-adds."""
        return MULTIPLY_ADDS_PER_BYTE * sum(map(self._bytes, self._crossings[position]))

    def _bytes(self, name: str) -> float:
        shape = self._shapes.get(name)
        if shape is None or None in shape:
            return float("inf")
        return float(ELEMENT_BYTES * prod(size or 0 for size in shape))

    def _segment(self, start: int, stop: int) -> Segment | None:
        """Returns the segment of these nodes, with the source behind which most of its candidates stand."""
        best = None
        for source in self._flow.inputs(start, stop):
            windows = self._seen(source, start, stop)
            if windows and (best is None or len(windows) > len(best.windows)):
                best = Segment(start, stop, source, windows, self._channels(source), self._work_of(start, stop))
        return best

    def _seen(self, source: str, start: int, stop: int) -> dict[str, Window]:
        """Returns the windows of a source by candidate among these nodes, as far as they can be looked at."""
        if not self._is_image(source):
            return {}
        known = windows_of(self._flow.nodes[start:stop], source, self._flow.fixed, self._shapes)
        layers = [layer for index, layer in self._candidates.items() if start <= index < stop]
        windows = {layer.name: known[layer.input] for layer in layers if layer.input in known}
        return self._affordable(windows, self._channels(source), self._work_of(start, stop))

    def _work_of(self, start: int, stop: int) -> float:
        return self._work[stop] - self._work[start]

    def _is_image(self, source: str) -> bool:
        shape = self._shapes.get(source)
        if shape is None or self._elements.get(source) != onnx.TensorProto.FLOAT:
            return False
        return len(shape) in (3, 4) and all(shape)

    def _channels(self, source: str) -> int:
        shape = self._shapes[source]
        return min(SAMPLED_CHANNELS, shape[1] or 1)

    def _affordable(self, windows: Mapping[str, Window], channels: int, work: float) -> dict[str, Window]:
        """Returns the windows, small ones first, that can be sampled for a small share of the segment's work."""
        left, kept = TEST_SHARE * work - MULTIPLY_ADDS_PER_TEST, {}
        for name, window in sorted(windows.items(), key=lambda item: item[1].side):
            left -= MULTIPLY_ADDS_PER_VALUE * SAMPLES * channels * window.side**2
            if left < 0 or window.side > LARGEST_WINDOW:
                break
            kept[name] = window
        return {name: kept[name] for name in windows if name in kept}


def _last_joined(flow: Flow) -> dict[str, int]:
    """Returns by result of a product the last elementwise operator that reads it."""
    last = {}
    for index, node in enumerate(flow.nodes):
        if node.op_type in ELEMENTWISE:
            for name in flow.reads[index]:
                if name in flow.producer and flow.nodes[flow.producer[name]].op_type in PRODUCTS:
                    last[name] = index
    return last


def _bytes_nearby(flow: Flow, elements: Mapping[str, int]) -> set[str]:
    """Returns the tensors of bytes, and those that become bytes or were some.

    onnxruntime computes in bytes what lies between nodes that convert, so that no border may come between.
    """
    found = {name for name, element in elements.items() if element in BYTES}
    for index, node in enumerate(flow.nodes):
        if node.op_type in CONVERSIONS:
            found |= {*flow.reads[index], *node.output}
    return found


def _span(layer: Layer) -> tuple[int, int]:
    """Returns the first node of a layer and the one behind its last."""
    indices = [ref.index for ref in layer.taken_in]
    return min(indices), max(indices) + 1
