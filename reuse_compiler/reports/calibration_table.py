"""The report of a calibration as a table of the layers and lines of totals, for people."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from reuse_compiler.calibration.report import CalibrationReport, Check, Int8Check, LayerCalibration
from reuse_compiler.reports.calibration_words import layers_words, longest_work, rewritten, why_nothing
from reuse_compiler.reports.table import number, numbers, print_layers, print_lines, speed, words

COLUMNS = [
    *words("layer", "decision", "family"),
    *numbers("L", "H"),
    *words("table"),
    *numbers("r_c", "dense ms", "reuse ms", "error"),
]


def print_calibration(report: CalibrationReport, console: Console, folder: Path | None = None) -> None:
    """Prints one row per convolution and totals; `folder` is where the full report was written.

    Times are those of the layer alone; the error is that of its result with the earlier layers' reuse on.
    """
    print_layers(COLUMNS, report.layers, _cells, console)
    print_lines(totals(report, folder), console)


def totals(report: CalibrationReport, folder: Path | None = None) -> list[str]:
    """Returns the summary: how many layers use reuse, what that costs and gives on data held out, where it was put."""
    lines = ["", layers_words(report)]
    found = bool(rewritten(report))
    if not found:
        lines.append(f"why           {why_nothing(report)}")
    if report.check is not None and found:
        lines += _check_lines(report, report.check)
    if report.int8 is not None:
        lines += _int8_lines(report, report.int8)
    if len(report.reconstruction) > 1 and found:
        values = ", ".join(f"{way} {_value(check.value)}" for way, check in report.reconstruction.items())
        lines.append(f"rebuilt       {report.metric} by reconstruction: {values}")
    if report.tuning is not None and found:
        lines.append(f"tuned         {report.tuning}")
    if report.hold is not None:
        lines.append(f"hold          inputs keep their value within {number(report.hold.tolerances[0])}")
    lines.append(f"calibrated    on {report.data}")
    tried = len(report.trials)
    lines.append(f"              {tried} choice{'' if tried == 1 else 's'} tried in {report.seconds:.0f} s")
    if report.ledger:
        lines.append(f"              {', '.join(f'{kind} {share:.0%}' for kind, share in longest_work(report))}")
    empty = "" if found else ", which names no layer: compiling with it leaves the model as it is"
    lines.append(f"written to    {report.output}{empty}" if report.output else "nothing was written")
    if folder is not None:
        lines.append(f"report in     {folder}")
    return lines


def _check_lines(report: CalibrationReport, check: Check) -> list[str]:
    runs = f"{check.samples} run{'' if check.samples == 1 else 's'}"
    limit = "" if check.target is None else f" ({_value(check.target)})"
    verdict = "within the budget" if check.within_budget else f"MORE THAN THE BUDGET ALLOWS{limit}"
    # Only where rows are counted it is known how far the figure depends on which ones were drawn.
    spread = f" (± {number(check.flips.standard_error)})" if check.flips is not None else ""
    reference = "" if check.reference is None else f"{_value(check.reference)} of the reference, "
    values = f"{reference}{_value(check.original)} before, {_value(check.value)} after{spread}"
    slower = "" if check.is_faster else ": NOT FASTER THAN THE ORIGINAL"
    return [
        f"accuracy      {report.metric} {values}, on {runs} held out: {verdict}",
        f"output error  relative {number(check.output_error)}",
        f"time          {speed(check.dense_ms, check.reuse_ms, report.options.get('threads'))}{slower}",
    ]


def _int8_lines(report: CalibrationReport, int8: Int8Check) -> list[str]:
    verdict = "within the budget" if int8.within_budget else "more than the budget allows"
    threads = report.options.get("threads")
    return [
        f"int8          onnxruntime's own ({int8.form}): {report.metric} {_value(int8.value)}: {verdict}",
        f"              output error {number(int8.output_error)}; {speed(int8.dense_ms, int8.reuse_ms, threads)}",
    ]


def _value(value: float) -> str:
    """A metric with the digits that budgets are given in."""
    return f"{value:.5g}"


def _cells(layer: LayerCalibration) -> list[str]:
    chosen = layer.chosen if layer.decision == "reuse" else None
    if chosen is None:
        return [layer.name, layer.decision, *"-----", number(layer.dense_ms), *"--"]
    settings = chosen.settings
    errors = (layer.error_reconstructed, layer.error_as_is, chosen.output_error)
    error = next(error for error in errors if error is not None)
    return [
        layer.name,
        layer.decision,
        settings.family,
        str(settings.sub_vector_length),
        str(settings.num_hashes),
        settings.table,
        *(number(value) for value in (chosen.r_c, chosen.dense_ms, chosen.reuse_ms, error)),
    ]
