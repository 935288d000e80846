"""Runs a model up to some of its tensors, over samples: what a layer reads and computes, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper

from reuse_compiler.graph.cut import cut_model
from reuse_compiler.processors import processors
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.sessions import open_session, run_session
from reuse_compiler.verification.verify import LayerTensor, in_chunks

HELD_BYTES = 512 * 2**20
"""Tensors of all runs together that are kept in memory instead of being computed again."""


@dataclass(frozen=True)
class Start:
    """A tensor that was computed before, run by run: what depends on it needs not be computed from the inputs."""

    tensor: str
    arrays: Sequence[NDArray[Any]]


class Activations:
    """Tensors of the main graph, run after run; iterating again computes them again, unless they are few."""

    def __init__(
        self,
        model: onnx.ModelProto,
        tensors: Sequence[str],
        feeds: Sequence[Feed],
        label: str,
        start: Start | None = None,
    ) -> None:
        self._tensors, self._label = list(tensors), label
        self._held: list[list[NDArray[Any]]] = []
        if start is not None and self._tensors == [start.tensor]:
            self._count, self._held = len(feeds), [[array] for array in start.arrays]
            return
        self._count = len(feeds)
        part = _part(model, tensors, start)
        wanted = {value.name for value in part.graph.input}
        self._feeds = [{name: array for name, array in feed.items() if name in wanted} for feed in feeds]
        if start is not None:
            for feed, array in zip(self._feeds, start.arrays, strict=True):
                feed[start.tensor] = array
        self._session = open_session(part, processors(), label, keeps_memory=False)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[NDArray[Any]]]:
        yield from self._held
        for index in range(len(self._held), self._count):
            tensors = self._run(index)
            size = sum(tensor.nbytes for tensor in tensors)
            if index == len(self._held) and size * self._count <= HELD_BYTES:
                self._held.append(tensors)
            yield tensors

    def once(self) -> Iterator[list[NDArray[Any]]]:
        """Yields the runs, too, and keeps nothing for another time."""
        return map(self._run, range(self._count))

    def _run(self, index: int) -> list[NDArray[Any]]:
        return run_session(self._session, self._tensors, self._feeds[index], self._label)

    def as_start(self) -> Start | None:
        """Returns the tensor as a start for what lies behind it; None unless it is one, and kept for all runs."""
        if len(self._tensors) != 1 or len(self._held) < self._count:
            return None
        return Start(self._tensors[0], [tensors[0] for tensors in self._held])


def one_by_one(
    model: onnx.ModelProto, pieces: Sequence[LayerTensor], feeds: Sequence[Feed], label: str
) -> Iterator[Activations]:
    """Yields the runs of each tensor; the model runs once for as many of them as memory holds together."""
    for chunk in in_chunks(
        [replace(piece, size=None if piece.size is None else piece.size * len(feeds)) for piece in pieces]
    ):
        tensors = list(dict.fromkeys(piece.tensor for piece in chunk))
        together = Activations(model, tensors, feeds, label)
        if len(tensors) == 1:
            yield from [together] * len(chunk)
            continue
        arrays = dict(zip(tensors, zip(*together, strict=True), strict=True))
        for piece in chunk:
            yield Activations(model, [piece.tensor], feeds, label, Start(piece.tensor, arrays[piece.tensor]))


def _part(model: onnx.ModelProto, tensors: Sequence[str], start: Start | None) -> onnx.ModelProto:
    if start is None:
        return cut_model(model, [], tensors)
    first = start.arrays[0]
    kind = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(first.dtype), first.shape)
    return cut_model(model, [start.tensor], tensors, {start.tensor: kind})
