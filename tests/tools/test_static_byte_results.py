"""The page's numbers of static clusters of bytes are those of the file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.progress import silent
from tests.calibration.test_calibrate import BATCH, inputs, network
from tests.calibration.test_quantised import quantised
from tools.calibrated import calibrated
from tools.static_byte_results import CUTS, INT8, ORIGINAL, STATIC, Results, judge_frames

RESULTS = Path("docs/results/static_bytes.json")


def test_the_page_has_the_numbers_of_the_file() -> None:
    forms = Results.model_validate(json.loads(RESULTS.read_text(encoding="utf-8"))).forms
    assert [form.name for form in forms] == ["original", "int8", *(f"static, L={cut[0]}, H={cut[1]}" for cut in CUTS)]
    rows = re.findall(r"^\| (?:float|int8|static).*", Path("docs/performance.md").read_text(encoding="utf-8"), re.M)
    cells = [[cell.strip() for cell in row.split("|")[1:4]] for row in rows]
    for form in forms:
        assert [form.name.replace("original", "float"), f"{form.top1:.4f}", f"{form.median_ms:.1f}"] in cells


def test_frames_are_judged_beside_int8_and_the_original() -> None:
    """A calibration that may lose much chooses a layer, and what that does to the outputs is told."""
    model, x = network(), inputs()
    feeds = [{"x": x[start : start + BATCH]} for start in range(0, len(x), BATCH)]
    bytes_model = quantised(model=model)
    options = CalibrationOptions(scope="static", metric="psnr", at_least=1.0, budget="quick")
    (found,) = calibrated(bytes_model, feeds, options, silent)
    forms = {ORIGINAL: model, INT8: bytes_model, STATIC: found.model}
    lines = {line.name: line for line in judge_frames(forms, feeds[:2], silent)}
    assert list(lines) == [ORIGINAL, INT8, STATIC] and all(line.median_ms > 0 for line in lines.values())
    assert lines[INT8].psnr is None and lines[ORIGINAL].psnr_of_original is None
    assert all(lines[form].psnr_of_original is not None for form in (INT8, STATIC))
