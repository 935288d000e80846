"""Layers measured alone, and how sensitive the output is to each: against what the whole model does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.calibration.activations import Activations
from reuse_compiler.calibration.deploy import Deployer
from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.evaluate import Evaluator
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.measure import LayerBench, Tried, is_beaten, promising
from reuse_compiler.calibration.metrics import make_metric, model_outputs
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.state import State
from reuse_compiler.calibration.survey import Survey
from reuse_compiler.fitting.hashes import VectorSampler
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.progress import silent
from reuse_compiler.reuse.config import LayerSettings, make_settings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.reuse.plan import LayerPlan
from reuse_compiler.verification.inputs import Feed
from tests.calibration.networks import (
    EFFORT,
    conv,
    feeds_of,
    network,
    network_1d,
    relu,
    samples_of,
    settings_for,
    weight,
    work_of,
)
from tests.comparison import relative_error
from tests.passes.models import model_of, tensor, value

Wanted = dict[str, list[LayerSettings]]


def survey_of(
    model: onnx.ModelProto, folder: Path, feeds: list[Feed] | None = None, resume: bool = False, effort: Effort = EFFORT
) -> Survey:
    """The last run is the one that layers are measured on, and the evaluator's first."""
    feeds = feeds or feeds_of(model)
    work, state = work_of(model, feeds[0]), State(folder / "state.json", resume)
    samples = samples_of(model, [feeds[-1], *feeds[:-1]])
    evaluator = Evaluator(model, samples, make_metric("cosine", model_outputs(model), False), 1)
    return Survey(work, feeds[:-1], feeds[-1:], evaluator, CalibrationOptions(), effort, state, silent)


def wanted_of(work: Workpiece, *hashes: int, family: str = "learned", **settings: Any) -> Wanted:
    return {layer.name: [settings_for(layer, family, h, **settings) for h in hashes] for layer in work.layers}


@pytest.mark.parametrize("model", [network(), network_1d()], ids=["2d", "1d"])
@pytest.mark.parametrize("scope", ["image", "batch", "static"])
def test_measured_errors_are_those_in_the_model(model: onnx.ModelProto, scope: str, tmp_path: Path) -> None:
    """One layer rewritten in the whole model: its result differs as much as when it was measured alone."""
    survey = survey_of(model, tmp_path)
    wanted = wanted_of(survey.work, 4, 6, scope=scope)
    found = survey.measure(wanted)
    deployer = Deployer(survey.work, survey.feeds, EFFORT, 0)
    for layer in survey.work.layers:
        coarse, fine = found[layer.name].measurements
        assert [coarse.settings, fine.settings] == wanted[layer.name]
        assert min(coarse.output_error, fine.output_error) > 0 and 0 < coarse.r_c < fine.r_c
        if scope == "static":  # more centroids of so few samples need not suit other data better
            assert fine.r_c == 2**6 / layer.spec.rows
        else:
            assert coarse.output_error > fine.output_error and fine.r_c < 1
        assert coarse.operations < fine.operations
        assert min(fine.dense_ms, fine.reuse_ms) > 0
        plan = deployer.deploy({layer.name: fine.settings}, "none").plan
        rewritten = apply_plan(survey.work.prepared, plan).model
        ((actual,),) = Activations(rewritten, [layer.output], survey.others, "the compiled model")
        ((expected,),) = Activations(survey.work.model, [layer.output], survey.others, "the original model")
        assert fine.output_error == pytest.approx(relative_error(actual, expected), rel=1e-3)


def test_exact_reuse_errs_by_rounding_only(tmp_path: Path) -> None:
    survey = survey_of(network(), tmp_path)
    for own in survey.measure(wanted_of(survey.work, 1, family="exact")).values():
        assert own.measurements[0].output_error < 1e-5


def test_sensitivities_are_those_of_the_model(tmp_path: Path) -> None:
    """The last layer's result is the output."""
    model = network()
    survey = survey_of(model, tmp_path)
    sensitivities = {name: own.sensitivity for name, own in survey.measure(wanted_of(survey.work, 6)).items()}
    assert set(sensitivities) == {"first", "grouped", "last"}
    assert sensitivities["last"] == pytest.approx(1.0, rel=1e-3)
    assert all(0 < own < 5 for own in sensitivities.values())


def test_a_layer_that_the_output_hardly_sees_is_not_sensitive(tmp_path: Path) -> None:
    nodes = [
        conv("x", "w1", "c", "loud"),
        conv("x", "w2", "d", "quiet"),
        helper.make_node("Mul", ["d", "small"], ["e"]),
        helper.make_node("Add", ["c", "e"], ["y"]),
    ]
    constants = [weight("w1", 8, 8, 3, 3), weight("w2", 8, 8, 3, 3)]
    constants.append(tensor("small", np.float32(1e-3)))
    model = model_of(nodes, [value("x", ["N", 8, 8, 8])], [value("y", None)], constants)
    survey = survey_of(model, tmp_path)
    found = survey.measure(wanted_of(survey.work, 6))
    assert found["loud"].sensitivity == pytest.approx(1.0, rel=0.01) and found["quiet"].sensitivity < 1e-4


def test_resuming_measures_nothing_again(tmp_path: Path) -> None:
    model = network()
    survey = survey_of(model, tmp_path)
    wanted = wanted_of(survey.work, 4, 6)
    found = survey.measure(wanted)
    before = (tmp_path / "state.json").stat().st_mtime_ns
    again = survey_of(model, tmp_path, resume=True)
    assert again.measure(wanted) == found  # the very same milliseconds
    assert (tmp_path / "state.json").stat().st_mtime_ns == before  # the time of access changes by reading
    fewer = again.measure({name: own[:1] for name, own in wanted.items()})
    assert {name: len(own.measurements) for name, own in fewer.items()} == dict.fromkeys(wanted, 1)


def test_layers_without_candidates_are_left_out(tmp_path: Path) -> None:
    survey = survey_of(network(), tmp_path)
    wanted = wanted_of(survey.work, 6) | {"first": [], "last": []}
    assert list(survey.measure(wanted)) == ["grouped"]
    assert survey.wanted() == {"first": [], "grouped": [], "last": []}  # none pays at this size


def odd_model(kind: str) -> onnx.ModelProto:
    """Layers that read the same tensor, have no names, or one input of several."""
    x = value("x", ["N", 4, 8, 8])
    constants = [weight("w1", 8, 4, 3, 3), weight("w2", 8, 8, 1, 1)]
    if kind == "shared input":
        nodes = [conv("x", "w1", "c", "a"), conv("x", "w1", "d", "b"), helper.make_node("Add", ["c", "d"], ["y"])]
        return model_of(nodes, [x], [value("y", None)], constants[:1])
    if kind == "nameless":
        nodes = [conv("x", "w1", "c"), helper.make_node("Relu", ["c"], ["r"], name="y"), conv("r", "w2", "y")]
        return model_of(nodes, [x], [value("y", None)], constants)
    nodes = [
        conv("x", "w1", "c", "a"),
        relu("c", "r"),
        conv("z", "w2", "d", "b"),
        helper.make_node("Add", ["r", "d"], ["y"]),
    ]
    return model_of(nodes, [x, value("z", ["N", 8, 6, 6])], [value("y", None)], constants)


@pytest.mark.parametrize("kind", ["shared input", "nameless", "two inputs"])
def test_odd_models(kind: str, tmp_path: Path) -> None:
    model = odd_model(kind)
    survey = survey_of(model, tmp_path)
    found = survey.measure(wanted_of(survey.work, 6))
    assert list(found) == ({"nameless": ["c", "y#2"]}.get(kind) or ["a", "b"])
    for own in found.values():
        assert 0 < own.measurements[0].output_error < 0.9 and 0 < own.measurements[0].r_c < 0.6 and own.sensitivity > 0


def test_many_candidates_are_measured_in_turns(tmp_path: Path) -> None:
    """More than are opened together; each has its own numbers."""
    survey = survey_of(network(), tmp_path)
    layer = survey.work.layers[1]
    settings = [settings_for(layer, family, h) for family in ("learned", "sign") for h in (1, 2, 3, 4, 5)]
    sampler = VectorSampler(layer.name, layer.spec, "channel", 400, 1, 0)
    ((x,),) = Activations(survey.work.model, [layer.input], survey.others, "the original model")
    sampler.add(x)
    bench = LayerBench(survey.work, layer, x, 1)
    found = bench.measure(bench.try_out(settings, sampler.sample()), 2)
    assert [own.settings for own in found] == settings
    learned, sign = [own.r_c for own in found[:5]], [own.r_c for own in found[5:]]
    assert learned == sorted(learned) and sign == sorted(sign) and learned != sign


def test_what_another_beats_is_timed_once() -> None:
    rivals = [(0.0, 1.0), (0.1, 0.4), (0.2, 0.2)]
    beaten = {(0.3, 1.6), (0.1, 0.61), (0.25, 0.31)}
    near = {(0.0, 1.4), (0.1, 0.4), (0.09, 0.9), (0.15, 0.55), (0.2, 0.29)}
    assert {point for point in beaten | near if is_beaten(point, [*rivals, point])} == beaten


def test_what_the_cost_model_rules_out_is_not_timed() -> None:
    spec = ConvSpec(1, 64, 32, 32, 64, (3, 3), pads=(1, 1, 1, 1))

    def tried(hashes: int, r_c: float, error: float) -> Tried:
        settings = make_settings(family="sign", layout="channel", L=16, H=hashes)
        return Tried(LayerPlan(spec, settings, HashParameters()), r_c, error)

    coarse, fine = tried(4, 0.1, 0.3), tried(6, 0.9, 0.1)
    useless, as_good = tried(6, 0.9, 0.3), tried(5, 0.1, 0.3)
    assert promising(spec, [coarse, useless, fine, as_good]) == [coarse, fine, as_good]
    broken = tried(6, 0.9, math.inf)
    assert promising(spec, [broken]) == [broken] and promising(spec, [broken, coarse]) == [coarse]
