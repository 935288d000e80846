"""Whole calibrations of small networks: what they write, what they promise, what they take up again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from reuse_compiler.calibration import calibration, candidates
from reuse_compiler.calibration.activations import Activations
from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.deploy import Deployer
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.evaluate import Evaluator
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.calibration.samples import from_reader, split
from reuse_compiler.calibration.search import Choice, Search
from reuse_compiler.compiler import compile_file
from reuse_compiler.configuration import parameters_path
from reuse_compiler.errors import ConfigError, DataError, ModelError, OutputError
from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig
from reuse_compiler.reuse.fitted import load_fitted
from reuse_compiler.reuse.plan import LayerPlan, Plan
from reuse_compiler.verification.inputs import model_inputs
from tests.calibration.networks import conv, relu, weight
from tests.comparison import relative_error
from tests.passes.models import model_of, random_array, run, tensor, value

SIZE, RUNS, BATCH = 8, 6, 4
LOOSE: dict[str, Any] = {"metric": "cosine", "max_drop": 0.2, "budget": "quick", "objective": "operations"}
"""By operations: times differ from run to run."""


def network() -> onnx.ModelProto:
    """Two layers that the cost model believes in: x -> `wide` + Relu -> `deep` (two groups) -> y."""
    nodes = [
        conv("x", "w1", "c", "wide", "b1", pads=[1, 1, 1, 1]),
        relu("c", "r"),
        conv("r", "w2", "y", "deep", group=2, pads=[1, 1, 1, 1]),
    ]
    constants = [weight("w1", 64, 8, 3, 3), tensor("b1", random_array(64)), weight("w2", 64, 32, 3, 3)]
    return model_of(nodes, [value("x", ["N", 8, SIZE, SIZE])], [value("y", ["N", 64, SIZE, SIZE])], constants)


def inputs() -> NDArray[np.float32]:
    """Plain squares of three basic colours with a little noise [images, 8, 8, 8]."""
    colours = np.einsum("nchw,cd->ndhw", random_array(RUNS * BATCH, 3, SIZE // 2, SIZE // 2), random_array(3, 8))
    squares: NDArray[np.float32] = colours.repeat(2, axis=2).repeat(2, axis=3)
    squares += np.float32(0.05) * random_array(*squares.shape)
    return squares


class Reader:
    """onnxruntime's CalibrationDataReader protocol."""

    def __init__(self, x: NDArray[np.float32]) -> None:
        self._runs = iter([{"x": x[start : start + BATCH]} for start in range(0, len(x), BATCH)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._runs, None)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("REUSE_CACHE", str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(network(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def calibrate(path: Path, output: str = "net.reuse.json", *, again: bool = False, **options: Any) -> CalibrationReport:
    own = CalibrationOptions(**(LOOSE | options))
    return calibrate_file(path, Reader(inputs()), path.with_name(output), own, resume=again)


def numbers(report: CalibrationReport) -> dict[str, Any]:
    """All that was found out, without how long it took."""
    return report.model_dump(exclude={"seconds", "ledger", "output", "check", "reconstruction"})


def test_the_compiled_model_does_what_the_report_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "default", replace(EFFORTS["default"], compares=True))  # as `extensive` does
    found = calibrate(path, budget="default")
    chosen = {layer.name: layer.chosen.settings for layer in found.layers if layer.chosen}
    assert chosen and [layer.name for layer in found.layers] == ["wide", "deep"]
    config = ReuseConfig.load(path.with_name("net.reuse.json"))
    assert config.layers == chosen
    fitted = load_fitted(config, path.with_name("net.reuse.json"))
    assert set(fitted.parameters) == set(fitted.weights) == set(chosen)
    compile_file(
        path, path.with_name("out.onnx"), CompileOptions(config=path.with_name("net.reuse.json")), verify=False
    )
    x = inputs()
    original, compiled = (run(str(file), {"x": x})[0] for file in (path, path.with_name("out.onnx")))
    cosine = float((original * compiled).sum() / np.linalg.norm(original) / np.linalg.norm(compiled))
    assert found.check is not None and found.check.within_budget
    assert cosine == pytest.approx(found.check.value, abs=0.05) and cosine > 0.75
    assert relative_error(compiled, original) == pytest.approx(found.check.output_error, abs=0.15)
    assert list(found.reconstruction) == ["none", "statistics", "weights"]
    assert found.reconstruction["weights"] == found.check
    assert found.check.output_error < found.reconstruction["none"].output_error


def test_int8_is_measured_on_the_same_data_if_asked_for(path: Path) -> None:
    assert calibrate(path, "without.json").int8 is None
    found = calibrate(path, compare_int8=True)
    assert found.int8 is not None and found.check is not None
    assert "Int8 per channel" in found.int8.form
    assert (found.int8.samples, found.int8.original, found.int8.target) == (
        found.check.samples,
        found.check.original,
        found.check.target,
    )
    assert 0.0 < found.int8.output_error < 0.1 and found.int8.within_budget and found.int8.value > 0.99
    assert "checking int8" in found.ledger


def test_where_the_time_went_adds_up_to_all_of_it(path: Path) -> None:
    found = calibrate(path)
    assert {"reading the samples", "measuring layers", "trial: fitting", "trial: measuring"} <= set(found.ledger)
    assert sum(found.ledger.values()) == pytest.approx(found.seconds, rel=0.01)


def test_static_clusters_make_results_of_each_image_alone(path: Path) -> None:
    found = calibrate(path, scope="static")
    chosen = {layer.name: layer.chosen.settings for layer in found.layers if layer.chosen}
    assert chosen and all(own.scope == "static" for own in chosen.values())
    config = path.with_name("net.reuse.json")
    fitted = load_fitted(ReuseConfig.load(config), config)
    assert set(fitted.centroids) == set(fitted.parameters) == set(fitted.weights) == set(chosen)
    compile_file(path, path.with_name("out.onnx"), CompileOptions(config=config), verify=False)
    x = inputs()
    original, together = (run(str(file), {"x": x})[0] for file in (path, path.with_name("out.onnx")))
    assert found.check is not None and found.check.within_budget
    assert relative_error(together, original) == pytest.approx(found.check.output_error, abs=0.15)
    alone = np.concatenate([run(str(path.with_name("out.onnx")), {"x": image})[0] for image in np.split(x, len(x))])
    np.testing.assert_array_equal(alone, together)


def test_trials_are_measured_as_the_model_will_be_compiled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that no memory is left for are made in each run, which counts in the time of a trial."""
    nothing = calibrate(path, "nothing.json", scope="static", table_memory=0)
    assert not any(layer.measurements for layer in nothing.layers)
    kept = []

    def spy(prepared: Any, plan: Plan, *rest: Any, **named: Any) -> Any:
        kept.append([layer.keep_tables for layer in plan.values()])
        return apply_plan(prepared, plan, *rest, **named)

    monkeypatch.setattr(candidates, "_fits", lambda *_: True)
    monkeypatch.setattr(calibration, "apply_plan", spy)
    calibrate(path, scope="static", table_memory=0)
    assert kept and not any(map(any, kept))


def test_trials_keep_the_target(path: Path) -> None:
    found = calibrate(path)
    assert found.target == pytest.approx(0.8)
    assert all(trial.accepted == (trial.value >= found.target - 1e-9) for trial in found.trials)
    accepted = [trial for trial in found.trials if trial.accepted]
    assert {layer.name: layer.chosen.settings for layer in found.layers if layer.chosen} in [t.layers for t in accepted]
    assert len(found.trials) <= EFFORTS["quick"].trials + 1 + calibration.MOST_IN_FULL


def test_few_labelled_samples_are_warned_of(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["y"], ["g"]))
    model.graph.node.append(helper.make_node("Flatten", ["g"], ["logits"]))
    model.graph.output[0].CopyFrom(value("logits", ["N", 64]))
    onnx.save(model, path)
    labels = np.concatenate([run(model, {"x": x})[0].argmax(axis=1) for x in np.split(inputs(), RUNS)])
    options = CalibrationOptions(**LOOSE | {"metric": "top1", "max_drop": 0.05})
    found = calibrate_file(path, Reader(inputs()), None, options, labels=labels)
    rows = found.trials[0].flips.rows if found.trials and found.trials[0].flips else 0
    assert 0 < rows < 20
    assert f"one of the {rows} labelled samples for selection is worth" in caplog.text
    assert "give at least 20 for selection" in caplog.text
    assert all(trial.flips is not None and (not trial.accepted or trial.flips.lost == 0) for trial in found.trials)


def test_a_budget_that_nothing_keeps_leaves_all_dense(path: Path) -> None:
    found = calibrate(path, max_drop=0.0)
    assert found.trials and not any(trial.accepted for trial in found.trials)
    assert all(layer.decision == "dense" and layer.reason for layer in found.layers)
    assert found.check is None and found.reconstruction == {}
    config = ReuseConfig.load(path.with_name("net.reuse.json"))
    assert config.layers == {} and config.parameters_file is None
    assert not parameters_path(path.with_name("net.reuse.json")).exists()


def all_layers(search: Search) -> Choice:
    """A search that tries all layers together, with the first settings of each."""
    choice = {layer.name: layer.measurements[0] for layer in search.layers}
    return choice if search.try_choice("all layers", choice).accepted else {}


def test_a_choice_that_is_slower_on_the_held_out_samples_is_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A trial that gains, as a draft and in full, then checks that do not, the last one twice.
    times = iter([*[(10.0, 8.0)] * 2, *[(10.0, 11.0)] * 4])
    monkeypatch.setattr(Evaluator, "_time", lambda *_: next(times))
    monkeypatch.setattr(Search, "run", all_layers)
    found = calibrate(path, objective="latency", max_drop=1.0)
    assert [(trial.accepted, trial.reuse_ms) for trial in found.trials] == [(True, 8.0)] * 2
    assert found.check is not None and (found.check.dense_ms, found.check.reuse_ms) == (10.0, 11.0)
    assert [layer.decision for layer in found.layers] == ["dense", "dense"]
    assert ReuseConfig.load(path.with_name("net.reuse.json")).layers == {}


@pytest.mark.parametrize(("last", "chosen"), [(9.0, 1), (9.9, 0)])
def test_the_best_that_was_tried_is_chosen_where_the_last_is_no_faster(
    path: Path, monkeypatch: pytest.MonkeyPatch, last: float, chosen: int
) -> None:
    def tried(search: Search) -> Choice:
        layer = search.layers[-1]
        first, second = ({layer.name: measurement} for measurement in layer.measurements[:2])
        assert search.try_choice("some", first).accepted and search.try_choice("others", second).accepted
        return second

    times = iter([(10.0, 8.0), (10.0, last), *[(10.0, 7.0)] * 4])
    monkeypatch.setattr(Evaluator, "_time", lambda *_: next(times))
    monkeypatch.setattr(Search, "run", tried)
    layer = calibrate(path, objective="latency", max_drop=1.0).layers[-1]
    assert layer.chosen is not None and layer.chosen.settings == layer.measurements[chosen].settings


def test_a_check_that_a_busy_machine_delayed_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(10.0, 8.0), (10.0, 8.0), (10.0, 11.0), (10.0, 7.5)])
    monkeypatch.setattr(Evaluator, "_time", lambda *_: next(times))
    monkeypatch.setattr(Search, "run", all_layers)
    found = calibrate(path, objective="latency", max_drop=1.0)
    assert found.check is not None and found.check.reuse_ms == 7.5
    assert "reuse" in [layer.decision for layer in found.layers]


def weaken(monkeypatch: pytest.MonkeyPatch, share_of: Callable[[LayerSettings], float]) -> None:
    """Has layers that are fitted in full, not drafts, get a share of their weights, by their settings."""
    fit = Deployer._fit

    def weakened(
        self: Deployer,
        layer: ConvLayer,
        settings: LayerSettings,
        inputs: Activations,
        how: Reconstruct,
        draft: bool = False,
    ) -> tuple[LayerPlan, tuple[float, float] | None]:
        plan, errors = fit(self, layer, settings, inputs, how, draft)
        if draft or plan.weights is None:
            return plan, errors
        return replace(plan, weights=replace(plan.weights, weight=share_of(settings) * plan.weights.weight)), errors

    monkeypatch.setattr(Deployer, "_fit", weakened)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_draft_stays_where_more_fitting_does_not_help(
    path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """What is fitted in full has `share` of the weights here."""
    weaken(monkeypatch, lambda settings: share)
    monkeypatch.setattr(Search, "run", all_layers)
    found = calibrate(path, max_drop=1.0)
    draft, full, *again = found.trials
    assert (full.output_error > draft.output_error) == bool(again) == (share < 1.0)
    assert all(trial.output_error == draft.output_error and trial.layers == draft.layers for trial in again)
    assert found.check is not None and found.check.output_error == pytest.approx(draft.output_error, rel=0.3)
    assert all(layer.error_reconstructed is not None for layer in found.layers if layer.decision == "reuse")


def test_another_choice_is_taken_where_the_first_one_keeps_the_budget_as_a_draft_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lucky = list[LayerSettings]()

    def tried(search: Search) -> Choice:
        layer = search.layers[-1]
        first, second = ({layer.name: measurement} for measurement in layer.measurements[:2])
        assert search.try_choice("some", first).accepted and search.try_choice("others", second).accepted
        lucky.append(second[layer.name].settings)
        return second

    times = iter([(10.0, 8.0), *[(10.0, 7.0)] * 9])
    monkeypatch.setattr(Evaluator, "_time", lambda *_: next(times))
    weaken(monkeypatch, lambda settings: -1.0 if settings in lucky else 1.0)
    monkeypatch.setattr(Search, "run", tried)
    found = calibrate(path, objective="latency")
    layer = found.layers[-1]
    assert [trial.accepted for trial in found.trials[:4]] == [True, True, False, True]
    assert layer.chosen is not None and layer.chosen.settings == layer.measurements[0].settings
    assert found.check is not None and found.check.within_budget


def test_an_original_that_is_not_good_enough_is_refused_before_the_long_work(path: Path, cache: Path) -> None:
    script = path.with_name("score.py")
    script.write_text("def score(expected, actual, labels):\n    return 0.25\n")
    with pytest.raises(ConfigError, match=r"the original model itself has .* 0\.25"):
        calibrate(path, metric=f"python:{script}:score", max_drop=None, at_least=0.5)
    assert not (cache / "calibration").exists()


def test_held_out_data_on_which_the_original_is_worse(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The score is the mean label: 1, but 0 on the data that is held out. The result is written all the same."""
    script = path.with_name("score.py")
    script.write_text("def score(expected, actual, labels):\n    return float(labels.mean())\n")
    runs = [{"x": x} for x in np.split(inputs(), RUNS)]
    held_out = split(from_reader(runs, model_inputs(network())), holdout=0.3, seed=0).holdout
    held_inputs = {sample.feed["x"].tobytes() for sample in held_out}
    labels = np.array([int(own["x"].tobytes() not in held_inputs) for own in runs]).repeat(BATCH)
    options = LOOSE | {"metric": f"python:{script}:score", "max_drop": None, "at_least": 0.5}
    found = calibrate_file(path, runs, None, CalibrationOptions(**options), labels=labels)
    assert found.check is not None and not found.check.within_budget and found.check.original == 0.0
    assert found.check.target == 0.5
    assert "the accuracy budget is not kept" in caplog.text
    assert ReuseConfig.load(path.with_name("net.reuse.json")).layers


class TestResuming:
    def test_nothing_is_measured_again(self, path: Path, cache: Path) -> None:
        first = calibrate(path, "a.json")
        (state,) = (cache / "calibration").iterdir()
        before = state.read_bytes(), state.stat().st_mtime_ns
        second = calibrate(path, "b.json", again=True)
        assert numbers(second) == numbers(first)  # milliseconds too
        assert (state.read_bytes(), state.stat().st_mtime_ns) == before
        assert same_configuration(path.with_name("a.json"), path.with_name("b.json"))

    def test_another_accuracy_budget_has_the_same_measurements(self, path: Path, cache: Path) -> None:
        first = calibrate(path, "a.json")
        second = calibrate(path, "b.json", again=True, max_drop=0.01)
        assert [own.measurements for own in second.layers] == [own.measurements for own in first.layers]
        assert len(list((cache / "calibration").iterdir())) == 1

    def test_what_was_ended_is_taken_up(self, path: Path, cache: Path) -> None:
        """A state without its trials, as if they had not been reached."""
        first = calibrate(path, "a.json")
        (state,) = (cache / "calibration").iterdir()
        values = json.loads(state.read_text())
        del values["trials"]
        state.write_text(json.dumps(values))
        second = calibrate(path, "b.json", again=True)
        assert [own.measurements for own in second.layers] == [own.measurements for own in first.layers]
        assert [trial.value for trial in second.trials] == pytest.approx([trial.value for trial in first.trials])
        assert same_configuration(path.with_name("a.json"), path.with_name("b.json"))

    def test_the_same_metric_of_another_output_is_measured(self, path: Path) -> None:
        model = network()
        model.graph.node.append(helper.make_node("Abs", ["y"], ["z"]))
        model.graph.output.append(value("z", ["N", 64, SIZE, SIZE]))
        onnx.save(model, path)
        values = [
            {
                trial.value
                for trial in calibrate(path, f"{name}.json", again=True, metric=f"cosine:output={name}").trials
            }
            for name in ("y", "z")
        ]
        assert values[0] and values[1] and not values[0] & values[1]

    def test_other_data_or_options_are_other_states(self, path: Path, cache: Path) -> None:
        calibrate(path, "a.json")
        calibrate(path, "b.json", again=True, seed=1)
        calibrate_file(path, Reader(2 * inputs()), path.with_name("c.json"), CalibrationOptions(**LOOSE), resume=True)
        assert len(list((cache / "calibration").iterdir())) == 3


def same_configuration(first: Path, second: Path) -> bool:
    texts = [file.read_text().replace(f'"{file.stem}.npz"', "") for file in (first, second)]
    return texts[0] == texts[1] and parameters_path(first).read_bytes() == parameters_path(second).read_bytes()


def test_the_same_call_writes_the_same_bytes(path: Path) -> None:
    for name in ("a.json", "b.json"):
        calibrate(path, name)
    assert same_configuration(path.with_name("a.json"), path.with_name("b.json"))


@pytest.mark.parametrize("scope", ["image", "batch", "static"])
def test_pictures_show_clusters_of_the_first_image(scope: str, path: Path, tmp_path: Path) -> None:
    for module in ("jinja2", "matplotlib"):
        pytest.importorskip(module, reason=f"{module} (extra `report`) is not installed")
    own = CalibrationOptions(**LOOSE | {"scope": scope})
    found = calibrate_file(path, Reader(inputs()), path.with_name("c.json"), own, report=tmp_path / "report")
    assert [picture.layer for picture in found.pictures] == [layer.name for layer in found.layers if layer.chosen]
    for picture in found.pictures:
        ids = np.array(picture.ids)
        assert ids.shape == (SIZE, SIZE) and 1 < len(np.unique(ids)) < SIZE * SIZE
        assert picture.image is None  # eight channels are no picture
    assert CalibrationReport.model_validate_json((tmp_path / "report" / "report.json").read_text()) == found


def test_a_model_of_several_inputs_and_bodies(tmp_path: Path) -> None:
    """The second input reaches one branch of an If, in whose other one stands a Conv that calibration leaves alone."""

    def body(result: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(list(nodes), result, [], [value(result, None)])

    model = network()
    branches = body("t", conv("y", "w3", "t", "inside")), body("e", helper.make_node("Identity", ["z"], ["e"]))
    model.graph.node.append(helper.make_node("If", ["flag"], ["f"], then_branch=branches[0], else_branch=branches[1]))
    model.graph.initializer.extend([weight("w3", 4, 64, 1, 1), tensor("flag", np.array(True))])
    model.graph.input.append(value("z", ["N", 4, SIZE, SIZE]))
    model.graph.output.append(value("f", None))
    onnx.save(model, tmp_path / "net.onnx")
    feeds = [{"x": x, "z": x[:, :4]} for x in np.split(inputs(), RUNS)]
    found = calibrate_file(tmp_path / "net.onnx", feeds, None, CalibrationOptions(**LOOSE))
    decisions = {layer.name: layer.decision for layer in found.layers}
    assert set(decisions) == {"wide", "deep", "inside"} and decisions["inside"] == "dense"
    assert "reuse" in decisions.values()


def test_other_shapes_than_the_first_are_refused(path: Path) -> None:
    x = inputs()
    with pytest.raises(DataError, match=r"run 2 has an input 'x' of shape \[3, 8, 8, 8\]"):
        calibrate_file(path, [{"x": x[:4]}, {"x": x[4:7]}, {"x": x[8:12]}], None, CalibrationOptions(**LOOSE))


def test_results_are_not_put_in_the_place_of_the_model(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would replace the model"):
        calibrate_file(path, Reader(inputs()), path, CalibrationOptions(**LOOSE), overwrite=True)
    (tmp_path / "report").write_text("precious")
    with pytest.raises(OutputError, match="must be a folder"):
        calibrate_file(path, Reader(inputs()), None, CalibrationOptions(**LOOSE), report=tmp_path / "report")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "report"]


def test_without_convolutions_there_is_nothing_to_do(tmp_path: Path) -> None:
    model = model_of([relu("x", "y")], [value("x", ["N", 4])], [value("y", None)])
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="nothing to calibrate"):
        calibrate_file(tmp_path / "net.onnx", [{"x": random_array(2, 4)}], None)


def test_an_input_without_a_rank_has_the_shape_of_the_samples(path: Path) -> None:
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    report = calibrate(path, exclude=".")
    assert {layer.reason for layer in report.layers} == {"its name matches --exclude '.'"}, "sizes are known"
