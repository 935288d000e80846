"""Writes an ONNX graph node by node. Knows operators, not networks; those are in `builders` and `conversion`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 9
Extent = int | str
"""One dimension: its length, or the name of a free one."""


class GraphWriter:
    """Collects nodes and initializers of one graph with the float32 input `x`.

    Every method that adds a node returns the name of its output, which is also the name of the node. A node without a
    given name is called after its operator and a running number.
    """

    def __init__(self, name: str, input_shape: Sequence[Extent]) -> None:
        self._name, self._input_shape = name, list(input_shape)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._counts: dict[str, int] = {}

    def constant(self, array: NDArray[Any], name: str | None = None) -> str:
        """An initializer with the array's own data type."""
        name = name or self._numbered("constant")
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        """A node with one output; an empty string among the inputs is one left out."""
        name = name or self._numbered(operator.lower())
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self,
        x: str,
        weight: NDArray[np.floating],
        bias: NDArray[np.floating] | None = None,
        name: str | None = None,
        *,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        group: int = 1,
        auto_pad: str | None = None,
    ) -> str:
        """Conv with weight `[M, Ic/group, kh, kw]` and bias `[M]`; `pad` on all four sides unless `auto_pad`."""
        name = name or self._numbered("conv")
        inputs = [x, self.constant(weight.astype(np.float32), f"{name}.weight")]
        if bias is not None:
            inputs.append(self.constant(bias.astype(np.float32), f"{name}.bias"))
        padding = {"pads": [pad] * 4} if auto_pad is None else {"auto_pad": auto_pad}
        geometry = {"kernel_shape": list(weight.shape[2:]), "strides": [stride] * 2, "dilations": [dilation] * 2}
        return self.node("Conv", inputs, name, group=group, **geometry, **padding)

    def gemm(self, x: str, weight: NDArray[np.floating], bias: NDArray[np.floating], name: str | None = None) -> str:
        """Fully connected layer with weight `[out, in]` and bias `[out]`."""
        name = name or self._numbered("gemm")
        inputs = [x, self.constant(weight.astype(np.float32), f"{name}.weight")]
        return self.node("Gemm", [*inputs, self.constant(bias.astype(np.float32), f"{name}.bias")], name, transB=1)

    def relu(self, x: str, name: str | None = None) -> str:
        """Relu of any shape."""
        return self.node("Relu", [x], name)

    def max_pool(self, x: str, kernel: int, stride: int, name: str | None = None, **attributes: Any) -> str:
        """MaxPool; padding as ONNX attributes (`pads` or `auto_pad`)."""
        return self.node("MaxPool", [x], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, **attributes)

    def resize_like(self, x: str, like: str) -> str:
        """`x` bilinearly resized to height and width of `like` (half-pixel centres)."""
        channels = self._shape_part(x, 0, 2)
        size = self.node("Concat", [channels, self._shape_part(like, 2, 4)], axis=0)
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self.node("Resize", [x, "", "", size], **mode)

    def build(
        self, output: str, shape: Sequence[Extent], further: Mapping[str, Sequence[Extent]] | None = None
    ) -> onnx.ModelProto:
        """The checked model with inferred shapes; the last node's output takes the name `output`.

        `further` has the shapes of more outputs by the names of their nodes.
        """
        self._nodes[-1].output[0] = output
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self._input_shape)]
        shapes = {output: shape, **(further or {})}
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(own)) for name, own in shapes.items()]
        graph = helper.make_graph(self._nodes, self._name, inputs, outputs, self._initializers)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="reuse-compiler")
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _shape_part(self, x: str, start: int, stop: int) -> str:
        bounds = [self.constant(np.array([bound], np.int64)) for bound in (start, stop)]
        return self.node("Slice", [self.node("Shape", [x]), *bounds])

    def _numbered(self, stem: str) -> str:
        self._counts[stem] = self._counts.get(stem, 0) + 1
        return f"{stem}_{self._counts[stem]}"
