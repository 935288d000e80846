"""The convolution cases of the onnx package's backend suite, with weights made constant."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node
from onnx.backend.test.loader import load_model_tests

Array = npt.NDArray[Any]

WEIGHT_INPUTS = slice(1, 3)


@dataclass(frozen=True)
class Case:
    """A model whose Convs have constant weights, and data sets of (inputs by name, expected outputs)."""

    name: str
    model: onnx.ModelProto
    data: list[tuple[dict[str, Array], list[Array]]]

    @property
    def convs(self) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if node.op_type == "Conv"]

    @property
    def weights(self) -> onnx.TensorProto:
        """[M, Ic/group, spatial dimensions of the kernel]."""
        tensors: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in self.model.graph.initializer}
        return tensors[self.convs[0].input[1]]

    @property
    def kernel_rank(self) -> int:
        """Spatial dimensions of the convolution."""
        return len(self.weights.dims) - 2

    @property
    def expected_refusal(self) -> str | None:
        """A word of the sentence with which the compiler must decline the case, or None if it must rewrite it."""
        group = next((a.i for a in self.convs[0].attribute if a.name == "group"), 1)
        if self.weights.data_type != onnx.TensorProto.FLOAT:
            return "element type"
        if self.kernel_rank == 3:
            return "3-D"
        return "depthwise" if group > 1 and self.weights.dims[1] == 1 else None


def node_tests(operator: str) -> list[Any]:
    """Returns the suite's tests of nodes about convolutions that have this operator.

    Other modules of the suite are not imported: they generate their tests, which takes seconds.
    """
    for module in pkgutil.iter_modules(node.__path__, f"{node.__name__}."):
        if "conv" in module.name:
            importlib.import_module(module.name)
    return [test for test in node._NodeTestCases if any(each.op_type == operator for each in test.model.graph.node)]


@functools.cache
def load_cases() -> list[Case]:
    """Returns every case with a Conv."""
    stored = load_model_tests(kind="pytorch-converted")
    tests = [(test.name, *_generated(test)) for test in node_tests("Conv")]
    tests += [(test.name, *_stored(Path(str(test.model_dir)))) for test in stored if test.name.startswith("test_Conv")]
    return [
        _with_constant_weights(name, model, data)
        for name, model, data in tests
        if any(node.op_type == "Conv" for node in model.graph.node)
    ]


def _generated(test: Any) -> tuple[onnx.ModelProto, list[tuple[list[Array], list[Array]]]]:
    return test.model, [(list(inputs), list(outputs)) for inputs, outputs in test.data_sets]


def _stored(folder: Path) -> tuple[onnx.ModelProto, list[tuple[list[Array], list[Array]]]]:
    data = []
    for data_set in sorted(folder.glob("test_data_set_*")):
        count = len(list(data_set.glob("input_*.pb")))
        inputs = [_read(data_set / f"input_{index}.pb") for index in range(count)]
        outputs = [_read(data_set / f"output_{index}.pb") for index in range(len(list(data_set.glob("output_*.pb"))))]
        data.append((inputs, outputs))
    return onnx.load(folder / "model.onnx"), data


def _read(path: Path) -> Array:
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _with_constant_weights(name: str, model: onnx.ModelProto, data: list[tuple[list[Array], list[Array]]]) -> Case:
    """Turns fed weights and biases into initializers; the suite feeds the same in all data sets of a case."""
    weights = {w for node in model.graph.node if node.op_type == "Conv" for w in node.input[WEIGHT_INPUTS]}
    given = {tensor.name for tensor in model.graph.initializer}
    fed = [value.name for value in model.graph.input if value.name not in given]
    constant = onnx.ModelProto()
    constant.CopyFrom(model)
    for value, array in zip(fed, data[0][0], strict=True):
        if value in weights:
            for inputs, _ in data[1:]:
                np.testing.assert_array_equal(inputs[fed.index(value)], array)
            constant.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value))
    remaining = [value for value in model.graph.input if value.name not in weights & set(fed)]
    del constant.graph.input[:]
    constant.graph.input.extend(remaining)
    if model.ir_version < 4:  # there, an initializer has to be an input as well
        constant.graph.input.extend(value for value in model.graph.input if value.name in weights & set(fed))
    feeds = [
        ({n: np.asarray(a) for n, a in zip(fed, inputs, strict=True) if n not in weights}, outputs)
        for inputs, outputs in data
    ]
    return Case(name, constant, feeds)
