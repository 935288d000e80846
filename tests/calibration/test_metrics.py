"""Metrics on outputs small enough to compute by hand, how they are chosen, and what they refuse."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.calibration.metrics import (
    Metric,
    OutputInfo,
    Outputs,
    check_metric,
    make_metric,
    model_outputs,
)
from reuse_compiler.errors import ConfigError, DataError, ReuseError

FLOAT = np.dtype(np.float32)
LOGITS = OutputInfo("logits", ("N", 3), FLOAT)
MAP = OutputInfo("map", ("N", 2, "H", "W"), FLOAT)
OTHER = OutputInfo("other", ("N", 2, "H", "W"), FLOAT)
COUNT = OutputInfo("count", ("N",), np.dtype(np.int64))

A, B, C = [9.0, 1.0, 0.0], [0.0, 9.0, 1.0], [0.0, 1.0, 9.0]


def logits(*rows: list[float]) -> Outputs:
    return {"logits": np.array(rows, np.float32)}


def maps(values: Any, name: str = "map") -> Outputs:
    return {name: np.array(values, np.float32)}


def measure(metric: Metric, *runs: tuple[Outputs, Outputs] | tuple[Outputs, Outputs, list[int]]) -> float:
    accumulator = metric.start()
    for expected, actual, *labels in runs:
        accumulator.add(expected, actual, np.array(labels[0]) if labels else None)
    return accumulator.value()


class TestValues:
    def test_top1_counts_rows_of_unequal_batches(self) -> None:
        metric = make_metric("top1", [LOGITS], True)
        runs = (logits(A, A, A), logits(A, B, C), [0, 1, 0]), (logits(A), logits(B), [0])
        assert measure(metric, *runs) == 2 / 4

    def test_top1_counts_what_is_lost_and_gained_beside_the_original(self) -> None:
        accumulator = make_metric("top1", [LOGITS], True).start()
        assert accumulator.flips() is None
        accumulator.add(logits(A, B, C, A), logits(B, B, A, B), np.array([0, 1, 0, 2]))
        accumulator.add(logits(A), logits(B), np.array([0]))
        flips = accumulator.flips()
        assert flips is not None and (flips.rows, flips.lost, flips.gained) == (5, 2, 1)
        # Differences of single rows: -1, 0, +1, 0, -1.
        assert flips.standard_error == pytest.approx(np.std([-1, 0, 1, 0, -1]) / 5**0.5)

    def test_top1_of_outputs_with_trailing_axes(self) -> None:
        metric = make_metric("top1", [OutputInfo("logits", ("N", 3, 1, 1), FLOAT)], True)
        actual = {"logits": logits(A, B)["logits"].reshape(2, 3, 1, 1)}
        assert measure(metric, (actual, actual, [0, 2])) == 0.5

    def test_agreement(self) -> None:
        metric = make_metric("agreement", [LOGITS], False)
        assert measure(metric, (logits(A, B), logits(A, C)), (logits(A), logits(A))) == 2 / 3

    def test_agreement_counts_the_rows_that_are_lost(self) -> None:
        accumulator = make_metric("agreement", [LOGITS], False).start()
        accumulator.add(logits(A, B, C), logits(A, C, C), None)
        accumulator.add(logits(A, B), logits(B, B), None)
        flips = accumulator.flips()
        assert flips is not None and (flips.rows, flips.lost, flips.gained) == (5, 2, 0)
        assert accumulator.value() == 1 - flips.drop

    def test_agreement_of_pixels(self) -> None:
        metric = make_metric("agreement", [MAP], False)
        expected = maps([[[[1, 0, 1]], [[0, 1, 0]]]])
        actual = maps([[[[1, 1, 1]], [[0, 0, 2]]]])
        assert measure(metric, (expected, actual)) == pytest.approx(1 / 3)

    def test_pixels_are_no_rows_that_flip_each_by_itself(self) -> None:
        accumulator = make_metric("agreement", [MAP], False).start()
        accumulator.add(maps([[[[1, 0, 1]], [[0, 1, 0]]]]), maps([[[[1, 1, 1]], [[0, 0, 2]]]]), None)
        assert accumulator.flips() is None

    def test_a_row_with_nan_has_no_class(self) -> None:
        broken = logits([math.nan, 1, 0])
        assert measure(make_metric("agreement", [LOGITS], False), (logits(A), broken)) == 0
        assert measure(make_metric("top1", [LOGITS], True), (logits(A), broken, [0])) == 0

    def test_iou_over_all_samples_together(self) -> None:
        metric = make_metric("iou", [MAP], False)
        first = maps([[[[0.5, 0.3, 0.41]]]]), maps([[[[0.5, 0.5, 0.0]]]])  # 1 of 3
        second = maps([[[[0.9, 0.9, 0.0]]]]), maps([[[[0.9, 0.9, 0.0]]]])  # 2 of 2
        assert measure(metric, first, second) == 3 / 5
        assert measure(metric, (maps([[[[0.1]]]]), maps([[[[0.2]]]]))) == 1.0, "no region in either"

    def test_iou_of_a_channel_above_a_threshold(self) -> None:
        expected, actual = maps([[[[1, 1]], [[0.7, 0.9]]]]), maps([[[[0, 0]], [[0.9, 0.7]]]])
        for spec, value in {
            "iou:0.8,1": 0.0,
            "iou:0.5,1": 1.0,
            "iou:index=1,threshold=0.5": 1.0,
            "iou:,1": 1.0,
            "iou:0.5,0": 0.0,
            "iou:0.5": 0.5,
            "iou:0.5,1,output=map": 1.0,
        }.items():
            assert measure(make_metric(spec, [MAP], False), (expected, actual)) == value, spec

    def test_psnr_of_values_from_0_to_1_has_peak_1(self) -> None:
        metric = make_metric("psnr", [MAP], False)
        runs = (maps([0.0, 0.5]), maps([0.1, 0.5])), (maps([0.25, 0.5]), maps([0.25, 0.5]))
        assert measure(metric, *runs) == pytest.approx(10 * math.log10(4 / 0.01), rel=1e-5)

    def test_psnr_of_other_values_has_their_range_over_all_runs(self) -> None:
        metric = make_metric("psnr", [MAP], False)
        runs = (maps([-2.0, 0.0]), maps([-2.0, 1.0])), (maps([6.0]), maps([6.0]))
        assert measure(metric, *runs) == pytest.approx(10 * math.log10(8**2 * 3 / 1))

    def test_cosine_and_mse(self) -> None:
        run = maps([[1.0, 0.0]]), maps([[1.0, 1.0]])
        assert measure(make_metric("cosine", [MAP], False), run) == pytest.approx(math.sqrt(0.5))
        assert measure(make_metric("mse", [MAP], False), run, run) == 0.5
        assert measure(make_metric("cosine", [MAP], False), (maps([1.0]), maps([0.0]))) == 0

    def test_the_worst_output_counts(self) -> None:
        expected = maps([1.0, 0.0]) | maps([1.0, 1.0], "other")
        actual = maps([1.0, 0.0]) | maps([1.0, 0.0], "other")
        run = expected, actual
        for spec, worst, best in (("cosine", math.sqrt(0.5), 1.0), ("mse", 0.5, 0.0)):
            assert measure(make_metric(spec, [MAP, OTHER], False), run) == pytest.approx(worst)
            assert measure(make_metric(f"{spec}:output=map", [MAP, OTHER], False), run) == pytest.approx(best)

    def test_kl_of_probabilities_and_of_scores(self) -> None:
        metric = make_metric("kl", [LOGITS], False)
        wanted, found = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
        divergence = float((wanted * np.log(wanted / found)).sum())
        probabilities = {"logits": wanted[None]}, {"logits": found[None]}
        scores = {"logits": np.log(wanted[None]) + 3}, {"logits": np.log(found[None]) - 2}
        assert measure(metric, probabilities) == pytest.approx(divergence)
        assert measure(metric, scores, scores) == pytest.approx(divergence)
        certain = {"logits": np.array([[0.0, 1.0, 0.0]])}, {"logits": np.array([[1.0, 0.0, 0.0]])}
        assert 10 < measure(metric, certain) < 100

    @pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("spec", ["psnr", "cosine", "mse", "kl"])
    def test_broken_outputs_are_infinitely_worse(self, spec: str, broken: float) -> None:
        metric = make_metric(spec, [LOGITS], False)
        value = measure(metric, (logits(A, B), logits(A, [broken, 9, math.nan])))
        assert metric.perfect is not None and metric.drop(metric.perfect, value) == math.inf

    def test_what_is_undefined_in_the_original_does_not_count(self) -> None:
        run = maps([math.nan, 1.0, math.inf]), maps([5.0, 1.0, 0.0])
        for spec in ("psnr", "cosine", "mse"):
            metric = make_metric(spec, [MAP], False)
            assert measure(metric, run) == metric.perfect

    @pytest.mark.parametrize("spec", ["agreement", "iou:0.4", "psnr", "cosine", "mse", "kl"])
    def test_a_model_is_perfect_beside_itself(self, spec: str) -> None:
        metric = make_metric(spec, [LOGITS], False)
        outputs = {"logits": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)}
        assert measure(metric, (outputs, outputs)) == metric.perfect == check_metric(metric, outputs, None)


class TestDrop:
    def test_is_positive_where_worse(self) -> None:
        higher, lower = make_metric("agreement", [LOGITS], False), make_metric("kl", [LOGITS], False)
        assert higher.drop(0.75, 0.5) == lower.drop(0.5, 0.75) == 0.25
        assert higher.drop(0.5, 0.75) == lower.drop(0.75, 0.5) == -0.25

    def test_infinite_values(self) -> None:
        psnr = make_metric("psnr", [MAP], False)
        assert psnr.drop(math.inf, math.inf) == 0
        assert psnr.drop(math.inf, 50.0) == psnr.drop(math.inf, math.nan) == math.inf


class TestChoice:
    @pytest.mark.parametrize(
        ("outputs", "has_labels", "name"),
        [
            ([LOGITS], True, "top1"),
            ([LOGITS], False, "agreement"),
            ([LOGITS, COUNT], False, "agreement"),
            ([OutputInfo("y", ("N", 1000, 1, 1), FLOAT)], False, "agreement"),
            ([OutputInfo("y", ("N", 1), FLOAT)], False, "cosine"),
            ([LOGITS, MAP], False, "cosine"),
            ([MAP], False, "cosine"),
            ([OutputInfo("y", None, FLOAT)], False, "cosine"),
        ],
    )
    def test_without_a_wish(self, outputs: list[OutputInfo], has_labels: bool, name: str) -> None:
        assert make_metric(None, outputs, has_labels).name == name

    def test_the_only_output_with_classes_is_taken(self) -> None:
        metric = make_metric("agreement", [MAP, LOGITS, COUNT], False)
        assert measure(metric, (logits(A), logits(A))) == 1

    def test_names_in_reports(self) -> None:
        assert make_metric("iou", [MAP], False).name == "iou:0.4"
        assert make_metric("iou:0.25,1", [MAP], False).name == "iou:0.25,1"

    @pytest.mark.parametrize(
        ("spec", "outputs", "message"),
        [
            ("accuracy", [LOGITS], r"there is no metric 'accuracy'; there are top1, agreement"),
            ("top1", [LOGITS], "needs the right classes: give --labels"),
            ("iou", [MAP, OTHER], r"say which, as in iou:output=map; the outputs are 'map' float32 \[N, 2, H"),
            ("iou:0.3", [MAP, OTHER], "as in iou:0.3,output=map"),
            ("agreement", [MAP, OTHER], "say which"),
            ("agreement", [OutputInfo("y", ("N",), FLOAT)], r"needs an output \[N, classes\]"),
            ("mse:output=nothing", [MAP], "finds no such output 'nothing' in the model"),
            ("cosine", [COUNT], "finds no output of floating point numbers"),
            ("mse:0.5", [MAP], "'0.5' is no argument of it; there are output=..."),
            ("iou:0.5,1,2", [MAP], "'2' is no argument"),
            ("iou:limit=3", [MAP], "'limit=3' is no argument of it; there are threshold=..., index=..., output=..."),
            ("iou:0.5,threshold=0.6", [MAP], "'threshold=0.6' is no argument"),
            ("iou:high", [MAP], "'high' is not a number"),
            ("iou:nan", [MAP], "'nan' is not a number"),
            ("iou:0.5,-1", [MAP], "'-1' is not the number of a channel"),
            ("python:no_such_module:f", [MAP], "there is no Python module 'no_such_module'"),
            ("python:no_such_module", [MAP], "names no function"),
            ("python:math:no_such_function", [MAP], "math has no function 'no_such_function'"),
        ],
    )
    def test_specifications_that_do_not_fit(self, spec: str, outputs: list[OutputInfo], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            make_metric(spec, outputs, False)

    def test_top1_needs_classes(self) -> None:
        with pytest.raises(ConfigError, match=r"the metric top1 needs an output \[N, classes\]"):
            make_metric("top1", [MAP], True)

    def test_outputs_of_a_model(self) -> None:
        infos = [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10]),
            helper.make_tensor_value_info("any", TensorProto.FLOAT16, None),
            helper.make_tensor_value_info("text", TensorProto.STRING, [1]),
            helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None),
        ]
        model = onnx.ModelProto(graph=helper.make_graph([], "g", [], infos))
        assert model_outputs(model) == [
            OutputInfo("y", ("N", 10), FLOAT),
            OutputInfo("any", None, np.dtype(np.float16)),
        ]


FUNCTIONS = """
def rows(expected, actual, labels):
    return len(expected["logits"]) + (0 if labels is None else 100 * labels.sum())

def raises(expected, actual, labels):
    return expected["heat"]

def wrong_type(expected, actual, labels):
    return "good"

def undefined(expected, actual, labels):
    return float("nan")
"""


class TestPython:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "my_metrics.py").write_text(FUNCTIONS)
        return tmp_path / "my_metrics.py"

    def test_the_mean_is_weighted_by_rows(self, file: Path) -> None:
        metric = make_metric(f"python:{file}:rows", [LOGITS], False)
        assert metric.name == f"python:{file}:rows" and metric.perfect is None and metric.higher_is_better
        assert measure(metric, (logits(A), logits(A)), (logits(A, B, C), logits(A, B, C))) == (1 * 1 + 3 * 3) / 4
        assert measure(metric, (logits(A), logits(A), [2])) == 201

    def test_a_module_of_the_current_folder(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(file.parent)
        file.rename(file.with_name("metrics_of_this_folder.py"))
        metric = make_metric("python:metrics_of_this_folder:rows", [LOGITS], False)
        assert measure(metric, (logits(A), logits(A))) == 1

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            ("raises", r"my_metrics\.py:raises raises KeyError: 'heat' \(my_metrics\.py, line 6\)"),
            ("wrong_type", r"wrong_type raises ValueError: could not convert string to float: 'good'"),
            ("undefined", r"undefined of the original's outputs against themselves is NaN"),
        ],
    )
    def test_functions_that_fail_are_named(self, file: Path, function: str, message: str) -> None:
        metric = make_metric(f"python:{file}:{function}", [LOGITS], False)
        with pytest.raises(ConfigError, match=message):
            check_metric(metric, logits(A), None)


class TestCheck:
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 1], "has 1 rows, but there are 2 labels"),
            ([3], r"labels from 3 to 3 do not fit the 3 classes of the output 'logits': they must be 0 to 2"),
            ([-1], "labels from -1 to -1"),
            (None, "there are none labels"),
        ],
    )
    def test_labels_that_do_not_fit(self, labels: list[int] | None, message: str) -> None:
        with pytest.raises(DataError, match=message):
            check_metric(make_metric("top1", [LOGITS], True), logits(A), None if labels is None else np.array(labels))

    def test_outputs_of_another_form_than_declared(self) -> None:
        unknown = OutputInfo("y", None, FLOAT)
        outputs = {"y": np.zeros(4, np.float32)}
        with pytest.raises(ConfigError, match=r"agreement does not suit outputs .* \{'y': \[4\]\}: AxisError"):
            check_metric(make_metric("agreement", [unknown], False), outputs, None)
        with pytest.raises(ConfigError, match=r"iou:0.4,5 finds no such channel in the output 'map' \[1, 2\]"):
            check_metric(make_metric("iou:0.4,5", [MAP], False), maps([[1.0, 2.0]]), None)

    def test_outputs_whose_shape_depends_on_values(self) -> None:
        accumulator = make_metric("mse", [MAP], False).start()
        with pytest.raises(ReuseError, match=r"shape \[2\] has shape \[3\] after .*python:module:function"):
            accumulator.add(maps([1.0, 2.0]), maps([1.0, 2.0, 3.0]), None)
