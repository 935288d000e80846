"""The short text at the end of the check: measurements, the last lines of what failed, and what became of the parts."""

from __future__ import annotations

from typing import Any

from tools.gpu_check.report import MEASUREMENTS, Report

MODES = ("float32", "TF32", "float16")
SHOWN = 2000
"""Characters of the failed parts' output, shared by them: the whole summary shall fit where only an end is kept."""
Line = dict[str, Any]


def mode_of(line: Line) -> str:
    """Returns float32, TF32 or float16."""
    return "float16" if line["element"] == "float16" else "TF32" if line["tf32"] else "float32"


def name_of(line: Line) -> str:
    """Returns what was measured."""
    return str(line.get("layer") or line.get("network"))


def summary(report: Report) -> str:
    """Returns the whole text; the parts are last, as the end of an output is what one sees."""
    lines = [line for kind in MEASUREMENTS for line in report.measured(kind)]
    blocks = [_table([line for line in lines if "speedup" in line]), _problems(lines), _tails(report), _parts(report)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _table(lines: list[Line]) -> list[str]:
    """A row for each layer or network at a batch size, the modes beside each other."""
    if not lines:
        return []
    rows: dict[tuple[str, int, bool], dict[str, Line]] = {}
    for line in lines:
        rows.setdefault((name_of(line), line["batch"], line["graph"]), {})[mode_of(line)] = line
    head = "".join(f" | {mode:16}" for mode in MODES)
    text = [
        "In each mode: ms of the dense form, speed-up by reuse (and how many layers have it). Then: relative error in "
        "each mode; whether results with TF32 differ from float32's.",
        f"{'layer or network':62} {'batch':>5} {'':5}{head} |",
    ]
    for (name, batch, graph), modes in rows.items():
        cells = "".join(f" | {_times(modes.get(mode)):16}" for mode in MODES)
        errors = " ".join(f"{modes[m]['error']:.0e}" if m in modes and "error" in modes[m] else "-" for m in MODES)
        row = f"{name:62.62} {batch:>5} {'graph' if graph else '':5}{cells} | {errors}{_difference(modes)}"
        text.append(row.rstrip())
    return text


def _times(line: Line | None) -> str:
    if line is None:
        return "-"
    layers = f" ({line['layers_with_reuse']})" if "layers_with_reuse" in line else ""
    return f"{line['dense_ms']:9.3f} {line['speedup']:6.2f}{layers}"


def _difference(modes: dict[str, Line]) -> str:
    """Says whether TF32 was on: with it on, results differ from those with it off."""
    differs = modes.get("TF32", {}).get("differs_from_float32")
    if differs is None:
        return ""
    return "; " + ", ".join(f"{form} {'differs' if yes else 'IS EQUAL'}" for form, yes in differs.items())


def _problems(lines: list[Line]) -> list[str]:
    """What could not be measured, by reason, with the first that it happened to."""
    reasons: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        for kind in {"failed", "skipped"}.intersection(line):
            reasons.setdefault((kind, line[kind][:300]), []).append(line)
    text = []
    for (kind, reason), concerned in reasons.items():
        first = concerned[0]
        mode = f" {mode_of(first)}{' graph' * first['graph']}" if "element" in first else ""
        count = "" if len(concerned) == 1 else f" and {len(concerned) - 1} more"
        text.append(f"{kind}: {name_of(first)}, batch {first['batch']}{mode}{count}: {reason}")
    return text


def _tails(report: Report) -> list[str]:
    failed = {name: outcome for name, outcome in report.parts.items() if outcome.failed and outcome.output}
    share = SHOWN // max(1, len(failed))
    return [f"-- the end of {name}'s output:\n{outcome.output[-share:].strip()}" for name, outcome in failed.items()]


def _parts(report: Report) -> list[str]:
    return [f"{name:12} {outcome.seconds:>6.1f} s  {outcome.status}" for name, outcome in report.parts.items()]
