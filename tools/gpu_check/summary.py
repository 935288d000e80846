"""The short table at the end of the check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the results in a file of JSON lines; a last line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def mode_of(line: dict[str, Any]) -> str:
    """Returns float32, TF32 or float16, with or without graph, in short."""
    element = "float16" if line["element"] == "float16" else "TF32" if line["tf32"] else "float32"
    return element + (" graph" if line["graph"] else "")


def print_summary(report: dict[str, Any]) -> None:
    """Prints every measurement in a line, and what became of the parts last."""
    numbers = f"{'dense ms':>9} {'reuse ms':>9} {'speed-up':>8} {'error':>8}"
    print(f"\n{'layer or network':58} {'batch':>5} {'mode':14} {numbers}  ms of hash, cluster, gemm, gather")
    for line in [*report["layers"], *report["networks"]]:
        if "element" not in line or "speedup" not in line:
            if "failed" in line or "skipped" in line:
                what = line.get("layer") or line.get("network")
                print(f"{what:58} {line['batch']:>5} {line.get('failed') or line.get('skipped')}")
            continue
        what = line.get("layer") or f"{line['network']}, {line['layers_with_reuse']} layers with reuse"
        stages = " ".join(f"{ms:.3f}" for ms in line.get("stages_ms", {}).values())
        print(
            f"{what:58} {line['batch']:>5} {mode_of(line):14} {line['dense_ms']:>9.3f} {line['fused_ms']:>9.3f} "
            f"{line['speedup']:>8.2f} {line.get('error', float('nan')):>8.1g}  {stages}"
        )
    print()
    for name, part in report["parts"].items():
        print(f"{name:12} {part['seconds']:>6.1f} s  {part['status']}")
