"""Shapes of convolutions against ONNX's own shape inference, and blocks against their definition."""

import onnx
from hypothesis import given, settings
from onnx import TensorProto, helper

from reuse_compiler.reuse.geometry import AutoPad, Blocking, ConvGeometry
from tests.custom_ops.cases import geometries


@settings(max_examples=200, deadline=None)
@given(drawn=geometries())
def test_output_size_is_that_of_onnx(drawn: tuple[ConvGeometry, AutoPad]) -> None:
    g, _ = drawn
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=g.kernel, strides=g.strides, pads=g.pads,
                            dilations=g.dilations, group=g.group)  # fmt: skip
    shapes = {
        "x": [g.batch, g.in_channels, g.in_height, g.in_width],
        "w": [g.out_channels, g.group_in_channels, *g.kernel],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    inferred = onnx.shape_inference.infer_shapes(helper.make_model(graph), strict_mode=True)
    dims = [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    assert dims == [g.batch, g.out_channels, g.out_height, g.out_width]


@settings(max_examples=100, deadline=None)
@given(drawn=geometries())
def test_same_padding_gives_the_input_size_over_the_stride(drawn: tuple[ConvGeometry, AutoPad]) -> None:
    g, auto_pad = drawn
    if auto_pad.startswith("SAME"):
        assert g.out_height == -(-g.in_height // g.strides[0])
        assert g.out_width == -(-g.in_width // g.strides[1])


def test_blocks_cover_every_column_once() -> None:
    geometry = ConvGeometry(2, 10, 5, 5, 4, (3, 3), group=2)
    for layout, width in (("patch", 45), ("channel", 5)):
        blocking = Blocking(geometry, layout, 4)  # type: ignore[arg-type]
        covered = [
            blocking.block_start(block) + element
            for block in range(blocking.blocks_per_group)
            for element in range(blocking.block_length(block))
        ]
        assert covered == list(range(width))
        assert blocking.num_blocks == 2 * blocking.blocks_per_group
    assert Blocking(geometry, "patch", 4).vectors == geometry.rows == 18
    assert Blocking(geometry, "channel", 4).vectors == 50
