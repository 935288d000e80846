"""The table people read: what stands where, on wide and narrow terminals and in a pipe."""

import io

import pytest
from rich.console import Console

from reuse_compiler.report import LayerReport, ModelReport
from reuse_compiler.reports.compilation_table import print_report, totals
from reuse_compiler.reports.table import LEGEND

REASON = "the weights are computed at run time, so that they cannot be packed: make them an initializer"


def report(**changes: object) -> ModelReport:
    reused = LayerReport(
        name="conv[1]",
        decision="reuse",
        reason="predicted cost 0.31",
        layout="channel",
        family="sign",
        L=64,
        H=12,
        scope="batch",
        predicted_cost=0.3123,
        r_c=0.0567,
        output_error=1.234e-4,
    )
    dense = [LayerReport(name=name, decision="dense", reason=REASON) for name in ("conv2", "conv3")]
    values: dict[str, object] = {
        "model": "net.onnx",
        "output": "net.reuse.onnx",
        "layers": [reused, *dense],
        "max_abs_error": 0.5,
        "rel_error": 0.012345,
        "dense_ms": 10.0,
        "reuse_ms": 4.0,
        "threads": 1,
        "verified_on": "random normal input x [1, 3, 32, 32], seed 0",
        "versions": {},
        "options": {},
    }
    return ModelReport.model_validate(values | changes)


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def printed(report: ModelReport, width: int | None = None) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=width is not None, width=width, color_system=None)
    print_report(report, console)
    return stream.getvalue().splitlines()


def test_held_inputs_are_told_with_what_they_cost() -> None:
    hold: dict[str, object] = {
        "inputs": ["x", "y"],
        "tolerances": (12, 0.5),
        "opening": 1,
        "dilation": 2,
        "patience": 9,
    }
    unknown = "\n".join(totals(report(hold=hold)))
    assert "pixels of 'x' and 'y' that differ by up to 12, 0.5 keep their value" in unknown
    assert "give frames in their order with --verify-data" in unknown
    hold |= {"frames": 60, "changed": 0.0387, "input_psnr": 36.68, "output_psnr": 31.2}
    known = "\n".join(totals(report(hold=hold)))
    assert "3.9% of the pixels of 60 frames change; held input 36.7 dB, outputs 31.2 dB" in known


def test_a_pipe_gets_one_line_per_layer_however_long() -> None:
    lines = printed(report())
    header, first, second = lines[:3]
    assert header.split() == [
        "layer",
        "decision",
        "layout",
        "family",
        "L",
        "H",
        "r_c",
        "cost",
        "error",
    ]
    assert first.split()[:9] == ["conv[1]", "reuse", "channel", "sign", "64", "12", "0.057", "0.31", "0.00012"]
    assert second.split() == ["conv2", "dense", "-", "-", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize("width", [80, None])
def test_a_narrow_terminal_and_a_pipe_get_the_reasons_of_dense_layers_once_below(width: int | None) -> None:
    lines = printed(report(), width)
    assert all(len(line) <= 80 for line in lines[:4])
    assert "reason" not in lines[0]
    text = " ".join(" ".join(lines).split())
    assert text.count(REASON) == 1 and f"Why layers stay dense: conv2, conv3: {REASON}" in text
    assert (f"conv2, conv3: {REASON}" in lines) == (width is None), "a line of a pipe is not broken"


def test_columns_limit_a_pipe_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, printed(report())[:4])) <= 80


def test_a_wide_terminal_gets_the_reasons_in_the_table() -> None:
    lines = printed(report(), width=200)
    assert lines[0].rstrip().endswith("reason") and lines[2].rstrip().endswith(REASON)


def test_reasons_stand_in_the_table_where_no_line_of_it_is_broken() -> None:
    width = next(len(line) for line in printed(report(), 400) if line.rstrip().endswith(REASON))
    assert printed(report(), width)[2].rstrip().endswith(REASON)
    text = " ".join(" ".join(printed(report(), width - 1)).split())
    assert f"Why layers stay dense: conv2, conv3: {REASON}" in text


@pytest.mark.parametrize("width", [60, 90, 400, None])
def test_r_c_is_explained_where_it_is_shown(width: int | None) -> None:
    assert " ".join(" ".join(printed(report(), width)).split()).count(LEGEND) == 1
    unknown = [layer.model_copy(update={"r_c": None, "reason": "none"}) for layer in report().layers]
    assert "r_c:" not in "".join(printed(report(layers=unknown), width))
    told = [layer.model_copy(update={"reason": "r_c at most 140"}) for layer in unknown]
    assert " ".join(" ".join(printed(report(layers=told), width)).split()).count(LEGEND) == 1


def test_totals() -> None:
    assert totals(report())[1:] == [
        "1 of 3 convolutions use reuse",
        "output error  relative 0.012, largest 0.5",
        "time          10 ms before, 4 ms after: 2.50 times as fast, 1 thread",
        "measured on   random normal input x [1, 3, 32, 32], seed 0",
        "              (on real data r_c and the errors differ: give some with --verify-data)",
        "written to    net.reuse.onnx",
    ]


def test_tables_of_static_layers_are_told_by_layer_and_in_all() -> None:
    reused, *dense = report().layers
    kept = reused.model_copy(update={"scope": "static", "table_bytes": 18 * 2**20, "keeps_tables": True})
    made = kept.model_copy(update={"name": "conv[2]", "table_bytes": 2**29, "keeps_tables": False})
    own = report(layers=[kept, made, *dense], table_bytes=18 * 2**20)
    lines = totals(own)
    assert "tables        18 MiB of static layers, kept by sessions" in lines
    assert "              (made in each run, for want of --table-memory: 'conv[2]')" in lines
    header, *rows = printed(own)[:4]
    assert header.split()[-2:] == ["tables", "MiB"]
    assert [row.split()[-1] for row in rows] == ["18", "512", "-"]
    assert not any("table-memory" in line for line in totals(report(layers=[kept], table_bytes=18 * 2**20)))


def test_totals_of_a_slower_model_on_real_data() -> None:
    lines = totals(report(dense_ms=4.0, reuse_ms=10.0, threads=2, verified_on="3 runs of x [1, 3] from d.npz"))
    assert "time          4 ms before, 10 ms after: 2.50 times as slow, 2 threads" in lines
    assert not any("--verify-data" in line for line in lines)


def test_totals_of_what_was_not_run() -> None:
    unmeasured = dict.fromkeys(("max_abs_error", "rel_error", "dense_ms", "reuse_ms", "verified_on", "output"))
    assert totals(report(**unmeasured))[1:] == ["1 of 3 convolutions use reuse", "nothing was written"]


def test_a_model_without_convolutions_has_no_table() -> None:
    lines = printed(report(layers=[]))
    assert lines[1] == "the model has no convolution, so there is nothing to rewrite"
