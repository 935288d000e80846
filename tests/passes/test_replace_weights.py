"""Fitted weights are computed with, in place of the model's; those that do not fit are refused."""

from typing import Any

import numpy as np
import pytest

from reuse_compiler.errors import ConfigError
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import ReuseConfig, make_settings
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.plan import LayerWeights
from tests.comparison import assert_close
from tests.passes.models import conv_model, random_array, run, tensor

CONFIG = ReuseConfig(layers={"conv": make_settings(family="exact", layout="channel", L=2, H=1)})


def fitted(weight: Any, bias: Any) -> Fitted:
    return Fitted(weights={"conv": LayerWeights(weight, bias)})


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize(
    ("weights", "shape"), [((6, 4, 3, 3), (2, 4, 8, 8)), ((6, 2, 3), (2, 4, 20))], ids=["2d", "1d-groups"]
)
@pytest.mark.parametrize("bias", [True, False])
def test_the_rewritten_layer_computes_with_fitted_weights(
    weights: tuple[int, ...], shape: tuple[int, ...], bias: bool, lowering: str
) -> None:
    model = conv_model(weights=weights, shape=shape, bias=bias, group=shape[1] // weights[1])
    weight, own_bias = random_array(*weights, seed=1), random_array(weights[0], seed=2)
    options = CompileOptions.model_validate({"lowering": lowering})
    lowered = lower(model, options, CONFIG, fitted(weight, own_bias))
    expected = conv_model(weights=weights, shape=shape, group=shape[1] // weights[1])
    del expected.graph.initializer[:]
    expected.graph.initializer.extend([tensor("w", weight), tensor("b", own_bias)])
    feeds = {"x": random_array(*shape, seed=3)}
    assert_close(run(lowered.model, feeds)[0], run(expected, feeds)[0])


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (np.ones((6, 4, 3, 2), np.float32), np.ones(6, np.float32), "'weight' has shape"),
        (np.ones((6, 4, 3, 3), np.float32), np.ones(5, np.float32), "'bias' has shape"),
        (np.full((6, 4, 3, 3), np.nan, np.float32), np.ones(6, np.float32), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weight: Any, bias: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lower(conv_model(), CompileOptions(), CONFIG, fitted(weight, bias))
