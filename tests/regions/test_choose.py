"""Which layers get two forms, what is expected of them, and what the user is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import quantize_dynamic

from reuse_compiler.compiler import compile_file
from reuse_compiler.graph.structure import graphs_of
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.choose_parameters import Decision, choose_parameters
from reuse_compiler.pipeline import find_layers
from reuse_compiler.regions import choose, saving
from reuse_compiler.regions.choose import Regions, find_regions
from reuse_compiler.report import ModelReport
from reuse_compiler.reports.compilation_table import totals
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.runtime import session, statistics
from reuse_compiler.verification.quantised import quantise
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, Measuring
from reuse_compiler.verification.verify import Verifier
from tests.comparison import assert_close
from tests.passes.models import random_array, value
from tests.regions.models import Net

SIDE = 192


def deep(*, size: int = SIDE, head: bool = True) -> onnx.ModelProto:
    """Two scales with enough work for two forms, and a head that is small."""
    net = Net(size=size)
    x = net.conv(net.conv(net.conv("x", "one", 32), "two", 32), "three", 32)
    x = net.conv(net.conv(net.pool(x, "small"), "four", 96), "five", 96)
    if head:
        x = net.add("GlobalAveragePool", [x], "mean")
    return net.build(x)


def found(model: onnx.ModelProto, measuring: Measuring | None = None) -> tuple[dict[str, Decision], Regions | None]:
    prepared = find_layers(model)
    chosen = choose_parameters(prepared.layers, CompileOptions(), None, Fitted(), {})
    decisions, regions = find_regions(prepared, chosen, measuring)
    return {each.layer.name: each for each in decisions}, regions


def test_layers_with_enough_work_stand_in_regions() -> None:
    decisions, regions = found(deep())
    assert regions is not None
    assert [list(region.saving.gains) for region in regions.parts] == [["two", "three"], ["four", "five"]]
    first, second = regions.parts
    assert (first.segment.source, second.segment.source) == ("x", "small")
    assert {name: window.side for name, window in first.segment.windows.items()} == {"two": 3, "three": 5}
    assert not first.saving.measured and first.saving.most > 0.3
    assert decisions["one"].plan is None  # three channels: reading them costs as much
    assert "'small' repeats, to save up to" in decisions["five"].reason
    assert regions.segments.stop == 12  # what the head reads is too large for another border


def test_a_quantised_model_is_one_region_from_its_floats_on() -> None:
    x = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    model = quantise(deep(), [{"x": x}], "QDQ", "QUInt8")
    decisions, regions = found(model)
    assert regions is not None
    (region,) = regions.parts
    assert region.segment.source == "x" and set(region.saving.gains) == {"two", "three", "four", "five"}
    assert {name: window.side for name, window in region.segment.windows.items()} == {
        "two": 3, "three": 5, "four": 8, "five": 12
    }  # fmt: skip
    first = model.graph.node[region.segment.start]
    assert (first.op_type, first.input[0]) == ("QuantizeLinear", "x")
    assert "'x' repeats, to save up to" in decisions["five"].reason


def test_a_model_of_integer_convolutions_is_one_region(tmp_path: Path) -> None:
    """The scale that a run finds for all pixels says nothing of their repetitions."""
    onnx.save(deep(), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", op_types_to_quantize=["Conv"])
    _, regions = found(onnx.load(tmp_path / "int8.onnx"))
    assert regions is not None and regions.parts[0].segment.source == "x"
    saving = regions.parts[0].saving
    assert {"two_quant", "five_quant"} <= saving.gains.keys()
    assert saving.loss < 0 and saving.needed(0.1) == 0.0  # ConvInteger is slower whatever repeats


def test_two_forms_are_asked_for_by_the_whole_of_what_they_may_save() -> None:
    _, regions = found(deep())
    assert regions is not None
    guards = regions.guards()
    assert [question.source for question in guards.entry] == ["x", "x"]
    second = guards.entry[1]
    assert {name: second.windows[name].side for name in second.gains} == {"four": 8, "five": 12}
    assert [each.test.source for each in guards.segments] == ["x", "small"]
    for entry, own in zip(guards.entry, guards.segments, strict=True):
        assert entry.gains.items() <= own.test.gains.items() and entry.threshold > own.test.threshold


@pytest.mark.parametrize("model", [deep(size=24), deep(size=1)])
def test_what_is_small_is_left_as_it_is(model: onnx.ModelProto) -> None:
    decisions, regions = found(model)
    assert regions is None
    assert all(each.plan is None for each in decisions.values())


def test_nodes_in_another_order_are_left_as_they_are() -> None:
    model = deep()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert found(model)[1] is None


def test_what_cannot_stand_in_a_file_twice_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = sum(4 * int(np.prod(t.dims)) for t in deep().graph.initializer)
    monkeypatch.setattr(choose, "MOST_BYTES", 3 * weights)
    assert found(deep())[1] is not None
    monkeypatch.setattr(choose, "MOST_BYTES", 3 * weights - 1)
    decisions, regions = found(deep())
    assert regions is None
    assert "save the model's as external data" in decisions["two"].reason and decisions["one"].plan is None


def test_a_segment_of_another_type_is_not_looked_at() -> None:
    model = deep()
    model.graph.node.insert(0, helper.make_node("Cast", ["bytes"], ["x"], to=TensorProto.FLOAT))
    model.graph.input[0].CopyFrom(value("bytes", [1, 3, SIDE, SIDE], TensorProto.UINT8))
    _, regions = found(model)
    assert regions is not None and regions.parts[0].segment.source == "x"  # and not the bytes


def times(dense: float, distinct: float, repeated: float) -> object:
    return lambda runs: {"dense": dense, "distinct": distinct, "repeated": repeated}


def test_measured_times_replace_the_expected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(saving, "_times", times(10.0, 15.0, 6.0))
    _, regions = found(deep(head=False), Measuring(1, tmp_path))
    assert regions is not None
    for region in regions.parts:
        measured = region.saving
        assert measured.measured and measured.loss == pytest.approx(0.5)
        # 6 ms with about a quarter distinct: a twelfth of the way from all to none costs 9/9 ms more than nothing.
        assert 0.55 < measured.most < 0.85
        assert measured.needed(0.0) == pytest.approx(0.5 / sum(measured.gains.values()))


def test_noise_takes_the_longest_however_many_of_its_vectors_are_equal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As those of bytes are: a fifth is distinct in noise, half of that where three quarters repeat."""
    shares = iter([0.2, 0.1] * 2)

    def distinct(*arguments: Any) -> dict[str, float]:
        share = next(shares)
        return {name: share for name in arguments[3].windows if name in arguments[4]}

    monkeypatch.setattr(saving, "_times", times(10.0, 12.0, 7.0))
    monkeypatch.setattr(saving, "_distinct", distinct)
    _, regions = found(deep(head=False), Measuring(1, tmp_path))
    assert regions is not None and len(regions.parts) == 2
    for region in regions.parts:
        assert region.saving.loss == pytest.approx(0.2)
        assert sum(region.saving.gains.values()) == pytest.approx(1.0)


def test_no_margin_is_asked_for_borders_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    model = quantise(deep(), [{"x": x}], "QDQ", "QUInt8")
    _, by_prices = found(model)
    monkeypatch.setattr(saving, "_times", times(10.0, 12.0, 5.0))
    _, measured = found(model, Measuring(1, tmp_path))
    for regions, margin in ((by_prices, choose.ENTRY_MARGIN), (measured, choose.MARGIN)):
        assert regions is not None
        (region,), (entry,) = regions.parts, regions.guards().entry
        assert entry.threshold == pytest.approx(region.saving.loss + margin)


def test_what_saves_little_gets_no_second_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(saving, "_times", times(10.0, 12.0, 9.8))
    decisions, regions = found(deep(), Measuring(1, tmp_path))
    assert regions is None
    assert "even where all repeats, its region saves" in decisions["five"].reason
    assert "--single" in decisions["five"].reason


def test_times_that_say_nothing_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(saving, "_times", times(10.0, 9.0, 9.5))
    _, regions = found(deep(), Measuring(1, tmp_path))
    assert regions is not None and not any(region.saving.measured for region in regions.parts)


def nodes_that_run(path: Path, x: np.ndarray) -> set[str]:
    opened = session(path)
    opened.run(None, {"x": x})
    return {node.node for node in statistics(opened) if node.rows}


@pytest.fixture
def images() -> Mapping[str, np.ndarray]:
    random = random_array(1, 3, SIDE, SIDE)
    page = random.copy()
    page[:, :, SIDE // 6 :] = 1.0
    return {"random": random, "page": page}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(deep(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_model_compiled_without_data(path: Path, images: Mapping[str, np.ndarray]) -> None:
    report = compile_file(path, verify=False)
    compiled = path.with_name("net.reuse.onnx")
    assert [region.layers for region in report.regions] == [["two", "three"], ["four", "five"]]
    weights = sum(4 * int(np.prod(t.dims)) for t in onnx.load(path).graph.initializer)
    assert 1.5 * weights < report.added_bytes < 2.5 * weights
    assert nodes_that_run(compiled, images["random"]) == set()
    assert nodes_that_run(compiled, images["page"]) == {"two", "three", "four", "five"}
    for x in images.values():
        wanted, actual = (session(file).run(None, {"x": x})[0] for file in (path, compiled))
        assert_close(actual, wanted)
    lines = "\n".join(totals(report))
    assert "4 of 5 convolutions use reuse, in runs whose input repeats enough:" in lines
    assert "2 where " in lines and "of 'x' repeats; saves up to " in lines and "--single writes one" in lines


IS_SLOWER = "reuse_compiler.verification.verify.is_slower"


def test_it_is_verified_in_both_forms(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_times", times(10.0, 15.0, 4.0))
    monkeypatch.setattr(IS_SLOWER, lambda samples, name, other: name == ORIGINAL)
    report = compile_file(path)
    assert report.rel_error == 0.0  # random inputs take the original nodes
    assert report.repeating_ms is not None and report.reuse_ms is not None
    assert all(layer.r_c and layer.output_error is not None for layer in report.layers if layer.decision == "reuse")
    assert "if repeating" in "\n".join(totals(report))


def test_two_forms_that_are_slower_are_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_times", times(10.0, 15.0, 4.0))
    monkeypatch.setattr(IS_SLOWER, lambda samples, name, other: name == COMPILED)
    tried: list[int] = []
    run = Verifier.run

    def counted(self: Verifier, layers: object) -> object:
        tried.append(len(self.compiled.graph.node))
        return run(self, layers)  # type: ignore[arg-type]

    monkeypatch.setattr(Verifier, "run", counted)
    report = compile_file(path)
    assert not report.regions and {layer.decision for layer in report.layers} == {"dense"}
    assert any(layer.reason.startswith("taken back, as the model took") for layer in report.layers)
    assert tried[1] < tried[0]  # first the nodes behind were taken in, so that no border is left
    assert onnx.load(path.with_name("net.reuse.onnx")) == onnx.load(path)


def test_two_forms_that_gain_nothing_where_most_repeats_are_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "_times", times(10.0, 15.0, 4.0))
    monkeypatch.setattr(IS_SLOWER, lambda samples, name, other: False)
    report = compile_file(path)
    assert not report.regions and report.repeating_ms is None
    assert "where three quarters of the input were blank" in report.layers[1].reason
    assert onnx.load(path.with_name("net.reuse.onnx")) == onnx.load(path)


def test_one_form_alone(path: Path, images: Mapping[str, np.ndarray]) -> None:
    report = compile_file(path, options=CompileOptions(single=True), verify=False)
    assert not report.regions and report.added_bytes == 0
    compiled = path.with_name("net.reuse.onnx")
    assert not any(node.op_type == "If" for graph in graphs_of(onnx.load(compiled).graph) for node in graph.node)
    assert nodes_that_run(compiled, images["random"]) == {"two", "three", "four", "five"}


def test_data_decides_which_layers_and_runs_still_ask(path: Path, images: Mapping[str, np.ndarray]) -> None:
    np.save(path.with_name("page.npy"), images["page"])
    report: ModelReport = compile_file(path, verify_data=path.with_name("page.npy"), options=CompileOptions(force=True))
    assert not report.regions  # demanded
    prepared = find_layers(onnx.load(path))
    ratios = {"two": 0.2, "three": 0.2, "four": 0.3, "five": 5.0}
    chosen = choose_parameters(prepared.layers, CompileOptions(), None, Fitted(), ratios)
    _, regions = find_regions(prepared, chosen, None)
    assert regions is not None
    assert [name for region in regions.parts for name in region.saving.gains] == ["two", "three", "four"]


def test_a_dry_run_says_what_each_region_would_do(path: Path) -> None:
    report = compile_file(path, dry_run=True)
    assert [region.source for region in report.regions] == ["x", "small"]
    assert not any(region.measured for region in report.regions)
