"""Shapes of convolutions against ONNX's own shape inference, and blocks against their definition."""

from dataclasses import replace
from typing import Any

import onnx
import pytest
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


@pytest.mark.parametrize("value", [0, 2**31, 2**63, 2**64 + 1])
@pytest.mark.parametrize("name", ["kernel", "strides", "dilations"])
def test_numbers_that_no_operator_takes_are_refused(name: str, value: int) -> None:
    arguments: dict[str, Any] = {"kernel": (1, 1), name: (1, value)}
    with pytest.raises(ValueError, match=rf"{name} must be at least 1 and at most 1073741824, unlike \(1, {value}\)"):
        ConvSpec(1, 1, 5, 5, 1, **arguments)


def test_sizes_that_are_not_known_are_zero_until_they_are() -> None:
    spec = ConvSpec.of([None, 4, None, None], [6, 4, 3, 3], auto_pad="SAME_UPPER")
    assert not spec.size_known and (spec.rows, spec.columns, spec.out_channels) == (0, 36, 6)
    known = spec.on([2, 4, 8, 9])
    assert known.size_known and (known.pads, known.output_shape) == ((1, 1, 1, 1), (2, 6, 8, 9))
    assert known.on([2, 4, None, 9]) == spec


def test_one_dimension_is_a_height_of_one() -> None:
    spec = ConvSpec.of([2, 4, 30], [6, 2, 5], strides=[2], pads=[1, 2], dilations=[3], group=2)
    assert spec == ConvSpec(2, 4, 1, 30, 6, (1, 5), (1, 2), (0, 1, 0, 2), (1, 3), 2, one_dimensional=True)
    assert (spec.input_shape, spec.weight_shape, spec.output_shape) == ((2, 4, 30), (6, 2, 5), (2, 6, 11))
    assert (spec.input_bytes, spec.weight_bytes, spec.output_bytes) == (4 * 240, 4 * 60, 4 * 132)
    assert spec.multiply_adds == 2 * 11 * 10 * 6


@pytest.mark.parametrize(
    "changes", [{"kernel": (0, 1)}, {"strides": (1, 0)}, {"dilations": (0, 1)}, {"group": 0}, {"pads": (0, 0, -1, 0)}]
)
def test_numbers_that_make_no_convolution_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        replace(ConvSpec(1, 4, 8, 8, 6, (3, 3)), **changes)


@pytest.mark.parametrize("group", [3, 4])
def test_channels_that_make_no_groups_are_refused(group: int) -> None:
    with pytest.raises(ValueError, match="groups"):
        ConvSpec(1, 4, 8, 8, 6, (3, 3), group=group)
