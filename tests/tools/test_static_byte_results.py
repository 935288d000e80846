"""The page's numbers of static clusters of bytes are those of the file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools.static_byte_results import CUTS, Results

RESULTS = Path("docs/results/static_bytes.json")


def test_the_page_has_the_numbers_of_the_file() -> None:
    forms = Results.model_validate(json.loads(RESULTS.read_text(encoding="utf-8"))).forms
    assert [form.name for form in forms] == ["original", "int8", *(f"static, L={cut[0]}, H={cut[1]}" for cut in CUTS)]
    rows = re.findall(r"^\| (?:float|int8|static).*", Path("docs/performance.md").read_text(encoding="utf-8"), re.M)
    cells = [[cell.strip() for cell in row.split("|")[1:4]] for row in rows]
    for form in forms:
        assert [form.name.replace("original", "float"), f"{form.top1:.4f}", f"{form.median_ms:.1f}"] in cells
