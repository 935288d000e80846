"""Runs a model up to some of its tensors, over samples: what a layer reads and computes, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import onnx
from numpy.typing import NDArray

from reuse_compiler.graph.cut import cut_model
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.verify import open_session, run_session

HELD_BYTES = 512 * 2**20
"""Tensors of all runs together that are kept in memory instead of being computed again."""


class Activations:
    """Tensors of the main graph, run after run; iterating again computes them again, unless they are few."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str], feeds: Sequence[Feed], label: str) -> None:
        part = cut_model(model, [], tensors)
        wanted = {value.name for value in part.graph.input}
        self._tensors, self._label = list(tensors), label
        self._feeds = [{name: array for name, array in feed.items() if name in wanted} for feed in feeds]
        self._session = open_session(part, os.cpu_count() or 1, Path(gettempdir()), label)
        self._held: list[list[NDArray[Any]]] = []

    def __len__(self) -> int:
        return len(self._feeds)

    def __iter__(self) -> Iterator[list[NDArray[Any]]]:
        yield from self._held
        for index in range(len(self._held), len(self._feeds)):
            tensors = run_session(self._session, self._tensors, self._feeds[index], self._label)
            size = sum(tensor.nbytes for tensor in tensors)
            if index == len(self._held) and size * len(self._feeds) <= HELD_BYTES:
                self._held.append(tensors)
            yield tensors
