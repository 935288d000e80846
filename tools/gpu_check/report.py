"""The report: machine, what became of every part, and what was measured; JSON, written after each part."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.gpu_check.runner import Outcome

REPORT, LOG = "gpu.json", "gpu_check.log"
MEASUREMENTS = ("layers", "networks")
"""Parts that write a file of JSON lines."""


@dataclass
class Report:
    """Everything that is known at the end, or so far."""

    folder: Path
    """Where the report and the measurements are written."""
    binaries: str = ""
    """What library and kernel tests were run."""
    machine: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Outcome] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / REPORT

    def as_lines(self) -> list[tuple[str, str]]:
        """Returns the machine, each property as text."""
        packages = ", ".join(f"{name} {version}" for name, version in self.machine["packages"].items())
        return [(key, str(value)) for key, value in self.machine.items() if key != "packages"] + [
            ("packages", packages)
        ]

    def measured(self, kind: str) -> list[dict[str, Any]]:
        """Returns the lines that were measured in this check."""
        return read_lines(self.folder / f"{kind}.jsonl") if kind in self.parts else []

    def forget(self, names: Iterable[str]) -> None:
        """Removes what an earlier check measured in parts that are to run now."""
        for kind in set(names).intersection(MEASUREMENTS):
            for suffix in ("jsonl", "begun"):
                (self.folder / f"{kind}.{suffix}").unlink(missing_ok=True)

    def write(self) -> None:
        """Writes the report anew, in one step."""
        content: dict[str, Any] = {"machine": self.machine, "binaries": self.binaries}
        content["parts"] = {name: asdict(outcome) for name, outcome in self.parts.items()}
        content |= {kind: self.measured(kind) for kind in MEASUREMENTS}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(self.path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the results in a file of JSON lines; a last line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
