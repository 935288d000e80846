"""Passes that break their promise are named."""

from __future__ import annotations

import pytest

from reuse_compiler.errors import PassError, ReuseError
from reuse_compiler.passes.base import Pass, PassContext, run_passes
from tests.passes.models import context_of, conv_model


class Recorder(Pass):
    """Writes down that it ran."""

    def __init__(self, log: list[str], modified: bool = False, before: str | None = None, after: str | None = None):
        self._log, self._modified, self._before, self._after = log, modified, before, after

    def requires(self, context: PassContext) -> str | None:
        return self._before

    def run(self, context: PassContext) -> bool:
        self._log.append("ran")
        return self._modified

    def ensures(self, context: PassContext) -> str | None:
        return self._after


def test_passes_run_in_order_and_tell_whether_they_modified() -> None:
    log: list[str] = []
    assert run_passes([Recorder(log), Recorder(log)], context_of(conv_model())) is False
    assert run_passes([Recorder(log, modified=True), Recorder(log)], context_of(conv_model())) is True
    assert log == ["ran"] * 4


def test_a_missing_precondition_stops_before_the_pass_runs() -> None:
    log: list[str] = []
    with pytest.raises(PassError, match="pass Recorder cannot run: the moon is not full"):
        run_passes([Recorder(log, before="the moon is not full")], context_of(conv_model()))
    assert log == []


def test_a_broken_promise_names_the_pass() -> None:
    log: list[str] = []
    with pytest.raises(ReuseError, match="pass Recorder broke its promise: the moon fell"):
        run_passes([Recorder(log, after="the moon fell"), Recorder(log)], context_of(conv_model()))
    assert log == ["ran"]
