"""What is measured and printed of a layer on CUDA. The CPU computes it: a GPU's numbers are not what is tested."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from rich.console import Console

from reuse_compiler.benchmark import conv
from reuse_compiler.benchmark.conv import Circumstances, measure_conv
from reuse_compiler.benchmark.printing import print_conv
from reuse_compiler.benchmark.report import ConvReport
from reuse_compiler.runtime import Provider, running_on
from reuse_compiler.runtime.sessions import STAGES_ENTRY, _entry
from reuse_compiler.verification.sessions import open_session
from tests.benchmark.conftest import MakeCase


class CudaOnTheCpu(Provider):
    """Is called CUDA and is the CPU."""

    @property
    def device(self) -> str:
        return "cpu"

    def for_onnxruntime(self) -> list[Any]:
        return ["CPUExecutionProvider"]

    def check(self, session: Any) -> None:
        assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("tf32", [False, True])
def test_a_report_has_no_floor_of_a_cpu(small_case: MakeCase, tf32: bool) -> None:
    with running_on(CudaOnTheCpu("cuda", tf32=tf32)):
        report = measure_conv(small_case(), Circumstances(repeats=2))
    assert (report.provider, report.tf32, report.peaks, report.floor, report.predicted_speedup) == (
        "cuda", tf32, None, None, None,
    )  # fmt: skip
    assert report.fused.stages_ms.hash > 0 and report.fused.relative_error < 1e-5
    assert ConvReport.model_validate_json(report.model_dump_json()) == report
    out = io.StringIO()
    print_conv(report, Console(file=out, width=200))
    text = out.getvalue()
    assert f"CUDA, TF32 {'on' if tf32 else 'off'}" in text and "floor" not in text and "cost model" not in text
    assert "fused ms" in text and "staged ms" not in text


def test_one_session_is_asked_to_time_its_stages(small_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = []

    def open_and_look(*arguments: Any, **named: Any) -> Any:
        environment = dict(os.environ)
        opened = open_session(*arguments, **named)
        assert os.environ == environment
        entries.append(_entry(opened.get_session_options(), STAGES_ENTRY))
        return opened

    monkeypatch.setattr(conv, "open_session", open_and_look)
    with running_on(CudaOnTheCpu("cuda")):
        measure_conv(small_case(), Circumstances(repeats=1))
    assert [entry for entry in entries if entry] == ["1"] and len(entries) == 4
