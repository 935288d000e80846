"""Layers fitted one after the other: the model runs, repeats, and errs as much as it says."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from reuse_compiler.calibration.activations import Activations
from reuse_compiler.calibration.deploy import Deployer, Deployment
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.fitting import reconstruct, shared_centroids
from reuse_compiler.pipeline import apply_plan, find_layers
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.plan import LayerPlan, Plan
from reuse_compiler.verification.inputs import Feed
from tests.calibration.networks import (
    EFFORT,
    conv,
    feeds_of,
    network,
    network_1d,
    relu,
    settings_for,
    weight,
    work_of,
)
from tests.comparison import assert_close, relative_error
from tests.passes.models import model_of, run, tensor, value

MODELS = pytest.mark.parametrize("model", [network(), network_1d()], ids=["2d", "1d"])


def settings_of(work: Workpiece, family: str = "learned", hashes: int = 6, **settings: Any) -> dict[str, LayerSettings]:
    return {layer.name: settings_for(layer, family, hashes, **settings) for layer in work.layers}


def deploy(model: onnx.ModelProto, how: Any, feeds: list[Feed] | None = None, **settings: Any) -> Deployment:
    feeds = feeds or feeds_of(model)
    work = work_of(model, feeds[0])
    return Deployer(work, feeds, EFFORT, seed=0).deploy(settings_of(work, **settings), how)


def model_with(deployment: Deployment, model: onnx.ModelProto) -> onnx.ModelProto:
    return apply_plan(work_of(model).prepared, deployment.plan).model


def outputs(model: onnx.ModelProto, feeds: list[Feed]) -> NDArray[Any]:
    return np.stack([run(model, feed)[0] for feed in feeds])


@MODELS
@pytest.mark.parametrize("how", ["none", "statistics", "weights"])
@pytest.mark.parametrize("family", ["learned", "sign", "exact"])
def test_the_model_runs_and_comes_close(model: onnx.ModelProto, how: str, family: str) -> None:
    feeds = feeds_of(model)
    hashes = {"learned": 9, "sign": 12, "exact": 1}[family]
    actual = outputs(model_with(deploy(model, how, feeds, family=family, hashes=hashes), model), feeds)
    expected = outputs(model, feeds)
    if family == "exact":
        assert_close(actual, expected)
    else:
        assert 0 < relative_error(actual, expected) < 0.6


def test_reconstruction_helps_on_other_data() -> None:
    model = network()
    other = feeds_of(model, 8)[4:]
    expected = outputs(model, other)
    errors = [
        relative_error(outputs(model_with(deploy(model, how), model), other), expected)
        for how in ("none", "statistics", "weights")
    ]
    assert errors[2] < 0.97 * errors[0] and errors[2] < errors[1]


@MODELS
@pytest.mark.parametrize("table", ["float", "int8"])
@pytest.mark.parametrize("scope", ["image", "batch", "static"])
@pytest.mark.parametrize("how", ["statistics", "weights"])
def test_layers_err_as_much_as_reported(
    model: onnx.ModelProto, scope: str, table: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured in the model, with the earlier layers' reuse on, on the run that judges: the last one."""
    monkeypatch.setattr(shared_centroids, "MOST_STEPS", 0)  # the centroids of the plan are those as is
    feeds = feeds_of(model)
    work = work_of(model, feeds[0])
    settings = settings_of(work, scope=scope, table=table)
    deployer = Deployer(work, feeds, EFFORT, seed=0)
    found = deployer.deploy(settings, how)  # type: ignore[arg-type]
    assert set(found.errors) == set(settings) == set(found.plan)
    earlier: list[str] = []
    for layer in work.layers:
        as_is, fitted = found.errors[layer.name]
        # Rounding is no part of what is fitted.
        assert 0 < fitted <= (1.01 if table == "int8" else 1.0) * as_is
        kept = {name: own for name, own in settings.items() if name in earlier}
        before = deployer.deploy(kept, how)  # type: ignore[arg-type]
        for name in earlier:
            np.testing.assert_array_equal(weight_of(before, name), weight_of(found, name))
        unfitted = {**before.plan, layer.name: dataclasses.replace(found.plan[layer.name], weights=None)}
        assert as_is == pytest.approx(error_of(unfitted, work, layer.linear_output, feeds[-1]), rel=1e-3)
        earlier.append(layer.name)


@pytest.mark.parametrize("table", ["float", "int8"])
def test_reconstructed_static_layers_err_as_much_as_reported(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and centroids here are those that were judged: fitted without the run that judges."""
    solve = reconstruct.LayerFit.solve

    def as_judged(fit: reconstruct.LayerFit, draft: bool) -> reconstruct.LayerReconstruction:
        found = solve(fit, draft)
        weight, bias = found.judged
        return dataclasses.replace(found, weight=weight, bias=bias)

    monkeypatch.setattr(reconstruct.LayerFit, "solve", as_judged)
    monkeypatch.setattr(shared_centroids, "MIN_ROWS", shared_centroids.MAX_ROWS)  # all of them
    model = network()
    feeds = feeds_of(model)
    work = work_of(model, feeds[0])
    found = Deployer(work, feeds, EFFORT, seed=0).deploy(settings_of(work, scope="static", table=table), "weights")
    plan: dict[str, LayerPlan] = {}
    for layer in work.layers:
        plan[layer.name] = found.plan[layer.name]
        actual = error_of(plan, work, layer.linear_output, feeds[-1])
        assert found.errors[layer.name][1] == pytest.approx(actual, rel=1e-3)


def test_fitted_centroids_help_on_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    other = feeds_of(model, 8)[4:]
    expected = outputs(model, other)
    errors = []
    for steps in (0, shared_centroids.MOST_STEPS):
        monkeypatch.setattr(shared_centroids, "MOST_STEPS", steps)
        found = deploy(model, "weights", scope="static", hashes=4)
        errors.append(relative_error(outputs(model_with(found, model), other), expected))
    assert errors[1] < 0.99 * errors[0]


@pytest.mark.parametrize("scope", ["batch", "static"])
def test_a_draft_is_fitted_to_fewer_rows_and_each_layer_for_itself(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruct, "MIN_ROWS", 64)
    model = network()
    work, feeds = work_of(model), feeds_of(model)
    settings = settings_of(work, hashes=4, scope=scope)
    effort = dataclasses.replace(EFFORT, draft_products=EFFORT.products / 16)
    deployer = Deployer(work, feeds, effort, seed=0)
    draft, full = (deployer.deploy(settings, "weights", draft=draft) for draft in (True, False))
    assert not draft.errors and full.errors.keys() == settings.keys()
    assert content(draft) != content(full)
    alone = deployer.deploy({"last": settings["last"]}, "weights", draft=True)
    assert content(Deployer(work, feeds, effort, seed=0).deploy(settings, "weights", draft=True)) == content(draft)
    assert alone.plan["last"] is draft.plan["last"]  # fitted once
    other = feeds_of(model, 8)[4:]
    expected = outputs(model, other)
    errors = [relative_error(outputs(model_with(own, model), other), expected) for own in (draft, full)]
    assert errors[1] < errors[0] < 2 * errors[1]
    assert content(full) == content(Deployer(work, feeds, EFFORT, seed=0).deploy(settings, "weights"))


def test_files_of_targets_go_with_the_deployer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = network()
    work, feeds = work_of(model), feeds_of(model)
    deployer = Deployer(work, feeds, EFFORT, seed=0)
    deployer.deploy(settings_of(work), "weights")
    assert len(list(tmp_path.glob("*/*.npy"))) == len(work.layers) * len(feeds)
    del deployer
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["none", "statistics"])
def test_a_draft_without_refitted_weights_is_all_there_is(how: Any) -> None:
    model = network()
    work = work_of(model)
    deployer = Deployer(work, feeds_of(model), EFFORT, seed=0)
    draft, full = (deployer.deploy(settings_of(work), how, draft=draft) for draft in (True, False))
    assert content(draft) == content(full) and draft.errors == full.errors


def error_of(plan: Plan, work: Workpiece, tensor: str, feed: Feed) -> float:
    """Relative error of a layer's own result; as an output of the model it is there, apart from its activation."""
    model = onnx.ModelProto()
    model.CopyFrom(work.model)
    if all(output.name != tensor for output in model.graph.output):
        model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    rewritten = apply_plan(find_layers(model, work.prepared.bound), plan).model
    ((actual,),) = Activations(rewritten, [tensor], [feed], "the compiled model")
    ((expected,),) = Activations(work.model, [tensor], [feed], "the original model")
    return relative_error(actual, expected)


def arrays_of(deployment: Deployment) -> dict[str, NDArray[Any]]:
    return Fitted.of(deployment.plan).arrays()


def content(deployment: Deployment) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays_of(deployment).items()}


def weight_of(deployment: Deployment, layer: str) -> NDArray[np.float32]:
    weights = deployment.plan[layer].weights
    assert weights is not None
    return weights.weight


@pytest.mark.parametrize("family", ["learned", "sign"])
def test_a_seed_repeats(family: str) -> None:
    first, second = (deploy(network(), "weights", family=family) for _ in range(2))
    assert content(first) == content(second) and first.errors == second.errors


def test_earlier_deployments_leave_nothing_behind() -> None:
    model = network()
    work, feeds = work_of(model), feeds_of(model)
    settings = settings_of(work)
    deployer = Deployer(work, feeds, EFFORT, seed=0)
    deployer.deploy({"grouped": settings["grouped"]}, "weights")
    deployer.deploy(settings, "none")
    assert content(deployer.deploy(settings, "weights")) == content(deploy(model, "weights"))


def test_layers_that_are_not_named_stay() -> None:
    model = network()
    work = work_of(model)
    deployment = Deployer(work, feeds_of(model), EFFORT, 0).deploy({"grouped": settings_for(work.layers[1])}, "weights")
    nodes = {node.name: node.op_type for node in apply_plan(work.prepared, deployment.plan).model.graph.node}
    assert (nodes["first"], nodes["grouped"], nodes["last"]) == ("Conv", "ReuseConv", "Conv")
    assert set(deployment.plan) == {"grouped"} and deployment.plan["grouped"].weights is not None


def test_wide_layers_are_rescaled_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`first` has 27 columns, `grouped` 36, `last` 12."""
    statistics = deploy(network(), "statistics")
    monkeypatch.setattr(reconstruct, "MOST_COLUMNS", 26)
    found = deploy(network(), "weights")
    np.testing.assert_array_equal(weight_of(found, "grouped"), weight_of(statistics, "grouped"))
    assert not np.array_equal(weight_of(found, "last"), weight_of(statistics, "last"))


def test_layers_may_share_weights_and_inputs() -> None:
    nodes = [
        conv("x", "w", "c", "one", pads=[1, 1, 1, 1]),
        conv("x", "w", "d", "two", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "d"], ["s"]),
        conv("s", "w", "y", "three"),
    ]
    model = model_of(
        nodes, [value("x", ["N", 8, 8, 8])], [value("c", None), value("y", None)], [weight("w", 8, 8, 3, 3)]
    )
    feeds = feeds_of(model)
    work = work_of(model)
    deployment = Deployer(work, feeds, EFFORT, 0).deploy({"two": settings_for(work.layers[1])}, "weights")
    changed = model_with(deployment, model)
    np.testing.assert_array_equal(run(changed, feeds[0])[0], run(model, feeds[0])[0])  # `one` is as before
    assert 0 < relative_error(run(changed, feeds[0])[1], run(model, feeds[0])[1]) < 0.6
    # With so few clusters there is much to gain from other weights.
    coarse = {layer.name: settings_for(layer).model_copy(update={"num_hashes": 4}) for layer in work.layers}
    everything = Deployer(work, feeds, EFFORT, 0).deploy(coarse, "weights")
    weights = {name: weight_of(everything, name).tobytes() for name in everything.plan}
    assert set(weights) == {"one", "two", "three"} and weights["one"] != weights["three"]
    assert 0 < relative_error(run(model_with(everything, model), feeds[0])[1], run(model, feeds[0])[1]) < 1.0


def test_a_result_that_is_an_output_of_the_model() -> None:
    model = network()
    model.graph.output.insert(0, value("c1", None))
    feeds = feeds_of(model)
    found = model_with(deploy(model, "weights", feeds), model)
    assert [output.name for output in found.graph.output] == ["c1", "y"]
    assert 0 < relative_error(run(found, feeds[0])[0], run(model, feeds[0])[0]) < 0.6


def test_a_layer_of_a_constant() -> None:
    nodes = [conv("k", "w", "c", "constant"), conv("x", "w", "d", "conv"), helper.make_node("Add", ["c", "d"], ["y"])]
    constants = [weight("w", 8, 4, 3, 3), tensor("k", feeds_of(network(), 1)[0]["x"][:, [0, 1, 2, 0]])]
    model = model_of(nodes, [value("x", ["N", 4, 8, 8])], [value("y", None)], constants)
    feeds = feeds_of(model)
    assert 0 < relative_error(outputs(model_with(deploy(model, "weights"), model), feeds), outputs(model, feeds)) < 0.6


@pytest.mark.filterwarnings("error")
class TestOddData:
    @pytest.mark.parametrize("how", ["statistics", "weights"])
    def test_constant_inputs(self, how: str) -> None:
        """One cluster each but at the rim: what is left to err is rounding."""
        model = network()
        feeds = [{"x": np.zeros((2, 3, 8, 8), np.float32)} for _ in range(3)]
        found = model_with(deploy(model, how, feeds, hashes=8), model)
        assert relative_error(run(found, feeds[0])[0], run(model, feeds[0])[0]) < 1e-3

    def test_nan_in_some_runs(self) -> None:
        feeds = feeds_of(network())
        feeds[0]["x"][0, 1, 2, 3] = np.nan
        feeds[1]["x"][:] = np.nan
        found = deploy(network(), "weights", feeds)
        assert all(np.isfinite(array).all() for name, array in arrays_of(found).items() if "weight" in name)
        clean = feeds_of(network(), 6)[4:]
        assert relative_error(outputs(model_with(found, network()), clean), outputs(network(), clean)) < 0.6

    def test_nan_only(self) -> None:
        feeds = [{"x": np.full((2, 3, 8, 8), np.nan, np.float32)}] * 2
        found = deploy(network(), "weights", feeds)
        assert all(np.isfinite(errors).all() for errors in found.errors.values())
        assert np.isnan(run(model_with(found, network()), feeds[0])[0]).all()

    @pytest.mark.parametrize("runs", [1, 2])
    def test_a_single_pixel(self, runs: int) -> None:
        """One row per run: nothing can be told from it, so that the layer keeps its weights."""
        nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), conv("p", "w", "c", "conv"), relu("c", "y")]
        model = model_of(nodes, [value("x", ["N", 8, 4, 4])], [value("y", None)], [weight("w", 6, 8, 1, 1)])
        feeds = feeds_of(model, runs, batch=1)
        found = deploy(model, "weights", feeds, family="sign", hashes=2)
        assert np.isfinite(found.errors["conv"]).all()
        assert_close(
            run(apply_plan(work_of(model, feeds[0]).prepared, found.plan).model, feeds[0])[0], run(model, feeds[0])[0]
        )
