"""A pytest plugin that ends the run where the GPU can do nothing more, as all later tests would only fail alike."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tools.gpu_check.sticky import sticky_error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = sticky_error(report.longreprtext) if report.failed else None
    if error is not None:
        item.session.shouldstop = f"the GPU is lost to this process after {item.nodeid}: {error}"
    return report
