"""Settings come from the configuration, the options or the papers; layers that would lose are declined."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.errors import ConfigError
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.choose_parameters import Decision, choose_parameters
from reuse_compiler.pipeline import find_layers
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import Fitted
from tests.passes.models import conv_model, model_of, random_array, tensor, value

WIDE: dict[str, Any] = {"weights": (128, 128, 3, 3), "shape": (1, 128, 16, 16), "pads": [1] * 4}
"""A layer for which reuse pays by the cost model."""


def choose(
    model: onnx.ModelProto,
    config: ReuseConfig | None = None,
    parameters: dict[str, HashParameters] | None = None,
    measured: dict[str, float] | None = None,
    **options: Any,
) -> list[Decision]:
    chosen = CompileOptions(**{"family": "sign" if config is None else None, **options})
    layers = find_layers(model, chosen.shapes).layers
    decisions = choose_parameters(layers, chosen, config, Fitted(parameters or {}), measured or {})
    assert [decision.layer for decision in decisions] == layers
    return decisions


def settings_of(decision: Decision) -> LayerSettings:
    assert decision.plan is not None and decision.plan.settings is decision.settings, decision.reason
    return decision.plan.settings


def test_defaults_of_random_hyperplanes_are_the_papers() -> None:
    (layer,) = choose(conv_model(**WIDE))
    settings = settings_of(layer)
    assert (settings.family, settings.layout, settings.sub_vector_length) == ("sign", "channel", 128)
    assert settings.num_hashes == 2  # Policy 2: the smallest H with 2^H > 0.01 * 256
    assert (settings.scope, settings.capacity, settings.metric) == ("batch", 1.0, "euclidean")
    assert layer.cost is not None and layer.cost.total < 1
    assert layer.reason.startswith(f"predicted cost {layer.cost.total:.2f} of the dense convolution")
    report = layer.report()
    assert (report.decision, report.L, report.H, report.N, report.K, report.M) == ("reuse", 128, 2, 256, 1152, 128)
    assert report.predicted_cost == layer.cost.total


def test_options_override_defaults() -> None:
    expected = LayerSettings(
        family="sign", layout="channel", L=16, H=7, scope="image", capacity=0.5, metric="angular", table="int8"
    )
    options = expected.model_dump(exclude={"layout", "metric"}) | {"distance": "angular"}
    (layer,) = choose(conv_model(**WIDE), force=True, **options)
    assert settings_of(layer) == expected


def test_int8_tables_need_the_fused_operator() -> None:
    with pytest.raises(ConfigError, match="layer 'conv': int8 tables need --lowering fused"):
        choose(conv_model(**WIDE), table="int8", lowering="staged", force=True)


@pytest.mark.parametrize(("length", "layout"), [(8, "channel"), (128, "channel"), (5, "patch"), (192, "patch")])
def test_auto_layout_is_channel_where_the_length_divides_the_channels(length: int, layout: str) -> None:
    (layer,) = choose(conv_model(**WIDE), sub_vector_length=length, force=True)
    assert settings_of(layer).layout == layout


def test_the_default_length_is_that_of_a_group() -> None:
    (layer,) = choose(conv_model(weights=(64, 16, 3, 3), shape=(1, 64, 16, 16), group=4), force=True)
    assert settings_of(layer).sub_vector_length == 16


def test_by_default_nothing_is_lost_and_the_best_case_decides() -> None:
    (layer,) = choose(conv_model(**WIDE), family=None)
    settings = settings_of(layer)
    assert (settings.family, settings.layout, settings.sub_vector_length) == ("exact", "channel", 128)
    assert "r_c at best 0" in layer.reason
    (small,) = choose(conv_model(), family=None)
    assert small.plan is None and "r_c at best 0" in small.reason and "--force" in small.reason
    (forced,) = choose(conv_model(), family=None, force=True)
    assert "r_c at most 1" in forced.reason


def test_exact_needs_no_hashes() -> None:
    (layer,) = choose(conv_model(**WIDE), family="exact", force=True)
    assert settings_of(layer).num_hashes == 1
    with pytest.raises(ConfigError, match=r"family exact has no hash functions.*--family sign with -H"):
        choose(conv_model(**WIDE), family="exact", num_hashes=9)


def test_a_layer_that_would_lose_is_declined_with_the_numbers_and_force_overrides_that() -> None:
    model = conv_model()
    (layer,) = choose(model)
    assert layer.cost is not None and layer.cost.total >= 1
    assert layer.plan is None
    assert layer.reason.startswith(f"predicted cost {layer.cost.total:.2f} of the dense convolution (hashing 0.")
    assert "--force rewrites it all the same" in layer.reason
    report = layer.report()
    assert (report.decision, report.predicted_cost, report.L) == ("dense", layer.cost.total, 4)
    (forced,) = choose(model, force=True)
    assert forced.plan is not None and forced.reason.startswith("forced: predicted cost")


def test_where_no_data_were_given_and_r_c_decides_it_is_said_how_to_measure_it() -> None:
    (unknown,) = choose(conv_model(**WIDE), num_hashes=20)
    assert unknown.plan is None and "r_c at most 1); --verify-data measures r_c" in unknown.reason
    assert unknown.reason.endswith("--force rewrites it all the same")
    (measured,) = choose(conv_model(**WIDE), measured={"conv": 0.99}, num_hashes=20)
    assert measured.plan is None and "r_c measured 0.99); --force" in measured.reason
    (at_best,) = choose(conv_model(), family=None)
    (hopeless,) = choose(conv_model())
    assert all(each.plan is None and "--verify-data" not in each.reason for each in (at_best, hopeless))


def test_force_overrides_nothing_else() -> None:
    (layer,) = choose(conv_model(weights=(4, 1, 3, 3), group=4), force=True)
    assert layer.plan is None and "depthwise" in layer.reason


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sub_vector_length": 1200}, "L=1200 is larger than the 1152 columns of its unfolded input"),
        ({"sub_vector_length": 129, "layout": "channel"}, "L=129 is larger than the 128 channels of its input"),
        ({"layers": "^other"}, "its name does not match --layers '^other'"),
        ({"exclude": "on"}, "its name matches --exclude 'on'"),
        ({"layers": "conv", "exclude": "conv"}, "its name matches --exclude"),
    ],
)
def test_options_that_leave_a_layer_dense(options: dict[str, Any], sentence: str) -> None:
    (layer,) = choose(conv_model(**WIDE), force=True, **options)
    assert layer.plan is None and sentence in layer.reason


def test_a_pattern_that_matches_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    choose(conv_model(**WIDE), layers="convolution")
    assert "--layers 'convolution' matches no convolution; their names are conv" in caplog.text


def test_too_many_hashes_for_the_family() -> None:
    with pytest.raises(ConfigError, match="H=40 is too large: family 'learned' takes at most 16"):
        choose(conv_model(**WIDE), family="learned", num_hashes=40)


def test_the_learned_family_needs_parameters() -> None:
    with pytest.raises(ConfigError, match="layer 'conv': family 'learned' needs trees fitted to samples"):
        choose(conv_model(**WIDE), family="learned", num_hashes=4)


def unknown_size_model() -> onnx.ModelProto:
    model = conv_model()
    model.graph.node[0].input[0] = "u"
    model.graph.node.insert(0, helper.make_node("Resize", ["x", "", "", "sizes"], ["u"]))
    model.graph.input.append(value("sizes", [4], TensorProto.INT64))
    return model


def test_an_unknown_size_needs_a_number_of_hashes() -> None:
    (layer,) = choose(unknown_size_model())
    assert layer.plan is None and layer.reason.startswith("its input size is unknown, so H cannot be chosen: give")
    assert "--shape" in layer.reason and "--verify-data" in layer.reason
    (given,) = choose(unknown_size_model(), num_hashes=5, force=True)
    assert settings_of(given).num_hashes == 5
    assert given.cost is None and given.reason.startswith("forced: its input size is unknown")


def test_an_unknown_cost_is_no_reason_to_rewrite() -> None:
    (layer,) = choose(unknown_size_model(), num_hashes=5)
    assert layer.plan is None and layer.cost is None
    assert layer.reason.startswith("its input size is unknown, and so is its cost: give")
    assert all(flag in layer.reason for flag in ("--shape", "--verify-data", "--force"))


def two_layers() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first", pads=[1] * 4),
        helper.make_node("Conv", ["c", "w"], ["y"], name="second", pads=[1] * 4),
    ]
    weights = tensor("w", random_array(128, 128, 3, 3))
    return model_of(nodes, [value("x", [1, 128, 16, 16])], [value("y", None)], [weights])


def config_of(**layers: dict[str, Any]) -> ReuseConfig:
    return ReuseConfig.model_validate({"layers": layers})


SIGN = {"layout": "channel", "L": 8, "H": 6}


def test_only_layers_of_the_configuration_are_rewritten() -> None:
    first, second = choose(two_layers(), config_of(second=SIGN))
    assert first.plan is None and first.reason == "the configuration does not name it"
    assert (settings_of(second).sub_vector_length, settings_of(second).num_hashes) == (8, 6)
    assert second.reason == "the configuration names it"


def test_the_configuration_is_not_subject_to_the_cost_model() -> None:
    config = config_of(second={"layout": "patch", "L": 1, "H": 12})
    _, second = choose(two_layers(), config)
    assert second.plan is not None and second.cost is not None and second.cost.total > 1


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ({"secnd": SIGN}, "names layer 'secnd', which the model does not have; did you mean 'second'?"),
        ({"qqq": SIGN}, r"which the model does not have; its layers are \['first', 'second'\]"),
        ({"first": SIGN | {"L": 129}}, "layer 'first' of the configuration: L=129 is larger than the 128 channels"),
        ({"first": {"layout": "patch", "L": 1153, "H": 3}}, "L=1153 is larger than the 1152 columns"),
        ({"first": SIGN | {"family": "learned"}}, "layer 'first': family 'learned' needs trees"),
    ],
)
def test_wrong_configurations(layers: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        choose(two_layers(), config_of(**layers))


def test_options_that_a_configuration_replaces_are_refused() -> None:
    with pytest.raises(ConfigError, match="-L and --scope cannot be used with --config"):
        choose(two_layers(), config_of(first=SIGN), sub_vector_length=8, scope="image")


def test_a_configured_layer_that_cannot_be_rewritten_is_told(caplog: pytest.LogCaptureFixture) -> None:
    (layer,) = choose(conv_model(weights=(4, 1, 3, 3), group=4), config_of(conv=SIGN | {"L": 1}))
    assert layer.plan is None and "depthwise" in layer.reason
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "layer 'conv' of the configuration stays dense" in record.message


def test_given_parameters_are_taken_and_checked() -> None:
    good = HashParameters(projections=random_array(16, 8, 6), thresholds=random_array(16, 6))
    _, second = choose(two_layers(), config_of(second=SIGN), {"second": good})
    assert second.plan is not None and second.plan.parameters is good
    bad = HashParameters(projections=random_array(16, 8, 5), thresholds=random_array(16, 6))
    with pytest.raises(
        ConfigError, match=r"layer 'second': 'projections' has shape \(16, 8, 5\), expected \(16, 8, 6\)"
    ):
        choose(two_layers(), config_of(second=SIGN), {"second": bad})


def projections(decision: Decision) -> Any:
    assert decision.plan is not None and decision.plan.parameters.projections is not None
    return decision.plan.parameters.projections


def test_random_parameters_depend_on_seed_and_name_only() -> None:
    first, second = choose(two_layers())
    again, _ = choose(two_layers())
    np.testing.assert_array_equal(projections(first), projections(again))
    assert not np.array_equal(projections(first), projections(second))
    other_seed, _ = choose(two_layers(), seed=1)
    assert not np.array_equal(projections(first), projections(other_seed))
    assert projections(first).flat[0] == pytest.approx(-0.2816453)  # the same in every process and on every machine


def test_the_seed_of_the_configuration_counts_unless_one_is_given() -> None:
    config = ReuseConfig.model_validate({"seed": 7, "layers": {"first": SIGN}})
    from_config, _ = choose(two_layers(), config)
    overridden, _ = choose(two_layers(), config, seed=0)
    plain, _ = choose(two_layers(), config_of(first=SIGN))
    assert not np.array_equal(projections(from_config), projections(plain))
    np.testing.assert_array_equal(projections(overridden), projections(plain))
