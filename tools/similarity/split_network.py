"""A network in two parts: as it is, showing one layer's input and result, and the rest from that result on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import DataError
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.runnable import exposed
from reuse_compiler.verification.verify import open_session, run_session
from tools.similarity.conv_layers import ConvLayer, ConvModel

Outputs = dict[str, NDArray[Any]]


class SplitNetwork:
    """Runs the network with another result of one layer."""

    def __init__(self, model: ConvModel, layer: ConvLayer, threads: int, folder: Path) -> None:
        """`folder` may hold temporary copies of a model with external data."""
        self._layer = layer
        self._outputs = [value.name for value in model.model.graph.output]
        # What the layer reads may be an input of the network; no onnxruntime need have that as an output, too.
        given = {value.name for value in model.model.graph.input}
        self._shown = [name for name in (layer.input, layer.output) if name not in given]
        with exposed(model.model, self._shown):
            self._whole = open_session(model.model, threads, folder, "original")
        self._rest = open_session(
            cut_model(model.model, [layer.output], self._outputs), threads, folder, f"rest after '{layer.name}' of the"
        )
        self._rest_inputs = {value.name for value in self._rest.get_inputs()} - {layer.output}

    def run(self, feed: Feed) -> tuple[NDArray[np.float32], NDArray[np.float32], Outputs]:
        """Returns the layer's input and result, and the network's outputs; raises DataError if they are not finite."""
        names = list(dict.fromkeys([*self._shown, *self._outputs]))
        values = feed | dict(zip(names, run_session(self._whole, names, feed, "original"), strict=True))
        x, y = values[self._layer.input], values[self._layer.output]
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise DataError(f"the input or the result of layer '{self._layer.name}' has values that are not finite")
        return x, y, {name: values[name] for name in self._outputs}

    def finish(self, feed: Feed, result: NDArray[np.float32]) -> Outputs:
        """Returns the network's outputs when the layer's result is `result`."""
        inputs = {name: array for name, array in feed.items() if name in self._rest_inputs}
        values = run_session(self._rest, self._outputs, inputs | {self._layer.output: result}, "rest of the")
        return dict(zip(self._outputs, values, strict=True))
