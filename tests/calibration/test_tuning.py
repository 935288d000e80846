"""Static layers that are tuned at the end of an extensive calibration, and what is said where they cannot be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.deploy import Deployer
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.calibration.tuning import Tuned, batches_of, tune_static_layers, with_own_weights
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.progress import silent
from reuse_compiler.reuse.plan import LayerPlan, Plan
from reuse_compiler.verification.inputs import Feed
from tests.calibration.networks import EFFORT, conv, feeds_of, network, relu, samples_of, settings_for, weight, work_of
from tests.calibration.test_calibrate import BATCH, Reader
from tests.calibration.test_calibrate import network as two_layers
from tests.comparison import assert_close, relative_error
from tests.passes.models import model_of, random_array, run, tensor, value

RUNS, STEPS = 32, 60


def deployed(work: Workpiece, feeds: list[Feed], scope: str = "static", hashes: int = 6) -> Plan:
    settings = {layer.name: settings_for(layer, "learned", hashes, scope=scope) for layer in work.layers}
    return Deployer(work, feeds, EFFORT, seed=0).deploy(settings, "weights").plan


def arrays_of(layer: LayerPlan) -> dict[str, NDArray[np.float32]]:
    """What is tuned of a layer."""
    assert layer.weights is not None and layer.centroids is not None
    return {"weight": layer.weights.weight, "bias": layer.weights.bias, "centroids": layer.centroids}


def tuned(model: onnx.ModelProto, plan: Plan, runs: int = RUNS, steps: int = STEPS) -> Tuned:
    feeds = feeds_of(model, runs)
    return tune_static_layers(work_of(model), plan, samples_of(model, feeds), steps, 0, silent)


def normalized() -> onnx.ModelProto:
    """X [N, 8, 8, 8] -> Conv without bias -> BatchNormalization -> Relu -> Conv -> y; the Convs share weights."""
    nodes = [
        conv("x", "w", "c", "first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]),
        relu("n", "r"),
        conv("r", "w", "y", "second", pads=[1, 1, 1, 1]),
    ]
    vectors = {"scale": random_array(8) + 2, "shift": random_array(8), "mean": random_array(8)}
    constants = [weight("w", 8, 8, 3, 3), *(tensor(name, array) for name, array in vectors.items())]
    constants.append(tensor("variance", np.square(random_array(8)) + 1))
    return model_of(nodes, [value("x", ["N", 8, 8, 8])], [value("y", None)], constants)


def test_normalizations_are_folded_in() -> None:
    model = normalized()
    work = work_of(model)
    changed = with_own_weights(work.model, work.layers)
    assert [node.op_type for node in changed.graph.node] == ["Conv", "Relu", "Conv"]
    (feed,) = feeds_of(model, 1)
    assert_close(run(changed, feed)[0], run(model, feed)[0])


def test_small_runs_are_put_together_where_the_batch_is_free() -> None:
    model = network()
    feeds = feeds_of(model, 10)
    together = batches_of(model, feeds, work_of(model))
    assert [batch["x"].shape[0] for batch in together] == [4] * 5  # two runs of two: a quarter of all at most
    np.testing.assert_array_equal(together[1]["x"], np.concatenate([feeds[2]["x"], feeds[3]["x"]]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert len(batches_of(model, feeds, work_of(model))) == 10


class TestWithTorch:
    @pytest.fixture(autouse=True)
    def torch(self) -> Any:
        return pytest.importorskip("torch", reason="tuning needs torch: pip install reuse-compiler[training]")

    @pytest.mark.parametrize("model", [network(), normalized()], ids=["groups", "normalized"])
    def test_the_model_comes_closer_on_other_data(self, model: onnx.ModelProto) -> None:
        work, feeds = work_of(model), feeds_of(model, 8)
        plan = deployed(work, feeds)
        found = tuned(model, plan)
        assert found.plan is not None and "in 60 steps: loss " in found.words
        other = feeds_of(model, RUNS + 4)[RUNS:]
        errors = []
        for own in (plan, found.plan):
            compiled = apply_plan(work.prepared, own).model
            results = [np.concatenate([run(m, feed)[0] for feed in other]) for m in (compiled, model)]
            errors.append(relative_error(*results))
        assert errors[1] < 0.99 * errors[0]
        for name, layer in found.plan.items():
            assert layer.settings == plan[name].settings and layer.parameters is plan[name].parameters
            assert arrays_of(layer).keys() == arrays_of(plan[name]).keys() == {"weight", "bias", "centroids"}
            assert all(not np.array_equal(array, arrays_of(plan[name])[key]) for key, array in arrays_of(layer).items())

    def test_it_repeats(self) -> None:
        model = network()
        plan = deployed(work_of(model), feeds_of(model))
        first, second = (tuned(model, plan, steps=3).words for _ in range(2))
        assert first == second

    def test_layers_of_other_scopes_stay_as_they_are(self) -> None:
        model = network()
        work, feeds = work_of(model), feeds_of(model)
        mixed = {**deployed(work, feeds), "grouped": deployed(work, feeds, "batch", 6)["grouped"]}
        found = tuned(model, mixed)
        assert "2 layers (first, last)" in found.words
        assert found.plan is None or found.plan["grouped"] is mixed["grouped"]
        batch = tuned(model, {"grouped": mixed["grouped"]})
        assert batch.plan is None and "none was chosen" in batch.words

    def test_a_graph_that_pytorch_does_not_run_here_is_left_as_it_is(self) -> None:
        model = network()
        plan = deployed(work_of(model), feeds_of(model))
        model.graph.node.append(helper.make_node("Erf", ["y"], ["z"]))
        model.graph.output[0].name = "z"
        found = tuned(model, plan)
        assert found.plan is None and "not possible: the operator Erf" in found.words

    def test_too_few_samples(self) -> None:
        model = network()
        found = tuned(model, deployed(work_of(model), feeds_of(model)), runs=2)
        assert found.plan is None and "more than 2 batches" in found.words


def write(folder: Path) -> Path:
    onnx.save(two_layers(), folder / "net.onnx")
    return folder / "net.onnx"


def calibrate(path: Path, budget: str, steps: int) -> CalibrationReport:
    """Calibrates as with `quick`, and tunes in the end."""
    EFFORTS[budget] = replace(EFFORTS["quick"], tune_steps=steps)  # type: ignore[index]
    colours = np.einsum("nchw,cd->ndhw", random_array(4 * RUNS * BATCH, 3, 4, 4), random_array(3, 8))
    x = colours.repeat(2, axis=2).repeat(2, axis=3).astype(np.float32)
    options = CalibrationOptions(
        metric="cosine", max_drop=0.2, budget=budget, objective="operations", scope="static"  # type: ignore[arg-type]
    )  # fmt: skip
    return calibrate_file(path, Reader(x), options=options, overwrite=True)


def test_a_calibration_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="tuning needs torch: pip install reuse-compiler[training]")
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path))
    before = dict(EFFORTS)
    try:
        found = calibrate(write(tmp_path), "extensive", STEPS)
    finally:
        EFFORTS.update(before)  # type: ignore[attr-defined]
    assert found.tuning is not None and f"in {STEPS} steps: loss " in found.tuning
    assert found.tuning.endswith("on the samples for selection: taken")
    assert list(found.reconstruction) == ["weights", "tuned"]
    assert found.check == found.reconstruction["tuned"]
    assert found.check.output_error < found.reconstruction["weights"].output_error
    assert "tuning" in found.ledger


WITHOUT = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # as if it were not installed
from tests.calibration.test_tuning import calibrate
found = calibrate(Path(sys.argv[1]), "extensive", 60)
print(found.tuning)
print(list(found.reconstruction))
"""


def test_without_pytorch_it_says_what_would_have_been_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(write(tmp_path))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "not tried: training needs PyTorch" in done.stdout and "'reuse-compiler[training]'" in done.stdout
    assert "centroids and weights of 2 layers (wide, deep) in 60 steps" in done.stdout
    assert "['weights']" in done.stdout
