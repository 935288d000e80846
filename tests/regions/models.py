"""Small networks with the shapes of real ones: chains, residuals, skips over a scale, constants among the nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.passes.models import model_of, random_array, tensor, value

SIZE = 24


class Net:
    """Puts nodes together; every convolution has 3x3 weights, keeps the size, and is followed by a Relu."""

    def __init__(self, channels: int = 3, batch: int | str = 1, size: int | str = SIZE) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.channels = {"x": channels}
        self.input = value("x", [batch, channels, size, size])

    def add(self, op: str, inputs: list[str], result: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [result], name=f"{result}_{op}", **attributes))
        self.channels[result] = self.channels.get(inputs[0], 0)
        return result

    def conv(self, source: str, name: str, channels: int = 16, *, relu: bool = True, kernel: int = 3) -> str:
        weights = random_array(channels, self.channels[source], kernel, kernel, seed=len(self.nodes)) / 8
        self.constants += [tensor(f"{name}_w", weights), tensor(f"{name}_b", random_array(channels))]
        inputs = [source, f"{name}_w", f"{name}_b"]
        self.nodes.append(helper.make_node("Conv", inputs, [f"{name}_c"], name=name, pads=[kernel // 2] * 4))
        self.channels[f"{name}_c"] = channels
        return self.add("Relu", [f"{name}_c"], name) if relu else f"{name}_c"

    def pool(self, source: str, name: str) -> str:
        return self.add("MaxPool", [source], name, kernel_shape=[2, 2], strides=[2, 2])

    def build(self, *outputs: str, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
        inputs = [self.input]
        if ir_version < 4:
            inputs += [value(t.name, list(t.dims), t.data_type) for t in self.constants]
        results = [value(name, [None] * 4) for name in outputs]
        return model_of(self.nodes, inputs, results, self.constants, opset=opset, ir_version=ir_version)


def chain(**options: Any) -> onnx.ModelProto:
    """Two scales of two convolutions each, and a head of a single pixel."""
    net = Net()
    x = net.pool(net.conv(net.conv("x", "one"), "two"), "small")
    x = net.conv(net.conv(x, "three"), "four")
    net.add("GlobalAveragePool", [x], "y")
    return net.build("y", **options)


def skips() -> onnx.ModelProto:
    """A residual, and a tensor of the first scale that is read behind the second; both are outputs, too."""
    net = Net()
    first = net.conv("x", "one")
    x = net.pool(net.conv(first, "two"), "small")
    inner = net.conv(net.conv(x, "three"), "four", relu=False)
    x = net.add("Relu", [net.add("Add", [inner, x], "sum")], "residual")
    net.constants.append(tensor("scales", np.array([1, 1, 2, 2], np.float32)))
    up = net.add("Resize", [x, "", "scales"], "up")
    net.channels["both"] = 32
    net.nodes.append(helper.make_node("Concat", [up, first], ["both"], name="both", axis=1))
    net.conv("both", "last")
    return net.build("last", "residual", "one")


def constants_among_the_nodes() -> onnx.ModelProto:
    """Constants stand inside what gets two forms, and nodes behind that read one of them, too."""
    net = Net()
    x = net.conv("x", "one")
    net.nodes.append(helper.make_node("Constant", [], ["half"], value=tensor("", np.array(0.5, np.float32))))
    x = net.conv(net.add("Mul", [x, "half"], "halved"), "two")
    x = net.add("ReduceMean", [x], "mean", axes=[1], keepdims=1)
    net.add("Add", [x, "half"], "y")
    return net.build("y")


def with_a_body() -> onnx.ModelProto:
    """An If of the model's own reads tensors from around it."""
    net = Net()
    first = net.conv("x", "one")
    second = net.conv(first, "two")
    net.nodes.append(helper.make_node("Constant", [], ["yes"], value=tensor("", np.array(True))))
    bodies = [
        helper.make_graph(
            [helper.make_node(op, [second, first], [f"{op}_result"])], op, [], [value(f"{op}_result", [None] * 4)]
        )
        for op in ("Add", "Sub")
    ]
    net.nodes.append(
        helper.make_node("If", ["yes"], ["chosen"], name="own", then_branch=bodies[0], else_branch=bodies[1])
    )
    net.channels["chosen"] = 16
    net.conv("chosen", "last")
    return net.build("last")


def two_inputs() -> onnx.ModelProto:
    """A second input joins behind the first convolutions."""
    net = Net()
    x = net.conv(net.conv("x", "one"), "two")
    net.constants.append(tensor("weight", random_array(16, 16, 1, 1)))
    net.add("Mul", [x, "mask"], "masked")
    net.conv("masked", "last")
    model = net.build("last")
    model.graph.input.append(value("mask", [1, 1, SIZE, SIZE]))
    return model


def images(batch: int = 1) -> dict[str, Any]:
    """Inputs by how much they repeat."""
    random = random_array(batch, 3, SIZE, SIZE)
    half = random.copy()
    half[:, :, SIZE // 2 :] = 0.25
    return {"random": random, "half": half, "constant": np.full_like(random, 0.5)}
