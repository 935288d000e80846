"""Names for new nodes and tensors that clash with none in any scope of a model."""

from __future__ import annotations

import onnx

from reuse_compiler.graph.structure import subgraphs_of


class Names:
    """The names in use; nodes and tensors have separate name spaces."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors: set[str] = set()
        self._nodes: set[str] = set()
        self._add(model.graph)

    def _add(self, graph: onnx.GraphProto) -> None:
        self._tensors |= {value.name for value in [*graph.input, *graph.output, *graph.value_info]}
        self._tensors |= {tensor.name for tensor in graph.initializer}
        self._tensors |= {tensor.values.name for tensor in graph.sparse_initializer}
        for node in graph.node:
            self._nodes.add(node.name)
            self._tensors |= {*node.input, *node.output}
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
        self._nodes.discard(name)


def _take(wish: str, taken: set[str]) -> str:
    name, number = wish, 2
    while name in taken:
        name, number = f"{wish}#{number}", number + 1
    taken.add(name)
    return name
