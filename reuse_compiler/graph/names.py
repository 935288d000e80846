"""Names for new nodes and tensors that clash with none in any scope of a model."""

from __future__ import annotations

import onnx

from reuse_compiler.graph.structure import subgraphs_of

FIRST_NUMBER = 2


class Names:
    """The names in use; nodes and tensors have separate name spaces."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors: dict[str, int] = {}
        self._nodes: dict[str, int] = {}
        """By name in use: the number to try next for another one of the kind."""
        self._add(model.graph)

    def _add(self, graph: onnx.GraphProto) -> None:
        values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
        self._tensors |= dict.fromkeys((value.name for value in values), FIRST_NUMBER)
        self._tensors |= dict.fromkeys((tensor.values.name for tensor in graph.sparse_initializer), FIRST_NUMBER)
        for node in graph.node:
            self._nodes[node.name] = FIRST_NUMBER
            self._tensors |= dict.fromkeys((*node.input, *node.output), FIRST_NUMBER)
            for body in subgraphs_of(node):
                self._add(body)

    def new_tensor(self, wish: str) -> str:
        """Returns `wish`, or `wish#2` and so on if it is taken, and takes it."""
        return _take(wish, self._tensors)

    def new_node(self, wish: str) -> str:
        """Returns `wish`, or `wish#2` and so on if it is taken, and takes it."""
        return _take(wish, self._nodes)

    def release_node(self, name: str) -> None:
        """Frees the name of a node that is about to be replaced."""
        self._nodes.pop(name, None)


def _take(wish: str, taken: dict[str, int]) -> str:
    name = wish
    while name in taken:
        name = f"{wish}#{taken[wish]}"
        taken[wish] += 1
    taken[name] = FIRST_NUMBER
    return name
