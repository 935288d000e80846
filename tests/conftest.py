"""Fixtures of tests on real networks: sample data and packaged models, skipped with a reason where they are missing."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from models import datasets, packaged
from models.conversion import MissingExtraError
from models.fetching import FetchError

Images = tuple[list[datasets.RgbImage], NDArray[np.int64]]
ReadImages = Callable[..., Images]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "network: downloads packages (or needs them in the cache)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many tests were skipped and why, so that nobody takes a run for a whole one."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if not reasons:
        return
    terminalreporter.section(f"{reasons.total()} tests were skipped")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count:5} {reason}")


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").splitlines()[0]


@pytest.fixture(autouse=True)
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps lines of progress out of what commands say on a machine on which they take long."""
    monkeypatch.setattr("reuse_compiler.cli.progress.SECONDS", 1e6)


@pytest.fixture
def read_images() -> ReadImages:
    """`datasets.images`, or a skip where the sample data is absent."""

    def read(name: str, count: int | None = None, start: int = 0) -> Images:
        try:
            return datasets.images(name, count, start)
        except datasets.DataMissingError as error:
            pytest.skip(str(error))

    return read


@pytest.fixture
def packaged_model() -> Callable[[str], Path]:
    """`packaged.load`, or a skip where the package cannot be downloaded or read."""

    def load(name: str) -> Path:
        try:
            return packaged.load(name)
        except (FetchError, MissingExtraError) as error:
            pytest.skip(str(error).splitlines()[0])

    return load


@pytest.fixture
def run_model() -> Callable[[onnx.ModelProto | Path, NDArray[np.float32]], NDArray[Any]]:
    """Runs a model on one input tensor, one thread, and returns its first output."""

    def run(model: onnx.ModelProto | Path, x: NDArray[np.float32]) -> NDArray[Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        output: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: x})[0]
        return output

    return run
