"""Shapes of convolutions against ONNX's own shape inference, and blocks against their definition."""

import onnx
from hypothesis import given, settings
from onnx import TensorProto, helper

from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from tests.custom_ops.cases import specs


@settings(max_examples=200, deadline=None)
@given(g=specs())
def test_output_size_is_that_of_onnx(g: ConvSpec) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=g.kernel, strides=g.strides, pads=g.pads,
                            dilations=g.dilations, group=g.group)  # fmt: skip
    shapes = {"x": g.input_shape, "w": g.weight_shape}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    inferred = onnx.shape_inference.infer_shapes(helper.make_model(graph), strict_mode=True)
    dims = [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert tuple(dims) == g.output_shape


@settings(max_examples=100, deadline=None)
@given(g=specs())
def test_same_padding_gives_the_input_size_over_the_stride(g: ConvSpec) -> None:
    if g.auto_pad.startswith("SAME"):
        assert g.out_height == -(-g.in_height // g.strides[0])
        assert g.out_width == -(-g.in_width // g.strides[1])


def test_blocks_cover_every_column_once() -> None:
    spec = ConvSpec(2, 10, 5, 5, 4, (3, 3), group=2)
    for layout, width in (("patch", 45), ("channel", 5)):
        blocking = Blocking(spec, layout, 4)  # type: ignore[arg-type]
        covered = [
            blocking.block_start(block) + element
            for block in range(blocking.blocks_per_group)
            for element in range(blocking.block_length(block))
        ]
        assert covered == list(range(width))
        assert blocking.num_blocks == 2 * blocking.blocks_per_group
    assert Blocking(spec, "patch", 4).vectors == spec.rows == 18
    assert Blocking(spec, "channel", 4).vectors == 50
