"""The context knows all shapes afterwards."""

from __future__ import annotations

import pytest

from reuse_compiler.errors import ConfigError
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.base import run_passes
from reuse_compiler.passes.infer_shapes import InferShapes
from tests.passes.models import context_of, conv_model


def test_shapes_are_those_of_the_options() -> None:
    model = conv_model(shape=["N", 4, "H", "W"])
    context = context_of(model, CompileOptions(shapes={"x": (2, 4, 10, 12)}))
    assert run_passes([InferShapes()], context) is False
    assert context.bound == {"x": (2, 4, 10, 12)}
    assert context.shapes is not None and context.shapes.of((), "y") == (2, 6, 8, 10)
    assert context.model == model


def test_a_wrong_shape_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="--shape q"):
        run_passes([InferShapes()], context_of(conv_model(), CompileOptions(shapes={"q": (1,)})))
