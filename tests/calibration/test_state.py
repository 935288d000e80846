"""What was found out is read back as it was, and nothing that belongs to something else."""

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import Measurement, Score
from reuse_compiler.calibration.state import State, state_path
from reuse_compiler.reuse.config import make_settings
from tests.calibration.networks import network


def unexpected() -> Any:
    raise AssertionError("computed again")


MEASUREMENT = Measurement(
    settings=make_settings(family="learned", layout="channel", L=4, H=6, table="int8"),
    r_c=0.1, output_error=float("inf"), dense_ms=1 / 3, reuse_ms=2.5e-7, operations=0.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "as_type"),
    [
        ([MEASUREMENT], list[Measurement]),
        (Score(value=float("inf"), drop=0.0, output_error=1e-9, dense_ms=1.5, reuse_ms=1 / 3), Score),
        (Score(value=0.5, drop=-0.1, output_error=float("inf"), dense_ms=1.5, reuse_ms=1 / 3), Score),
        (0.1, float),
        (0.0, float),
        (float("inf"), float),
        ([], list[Measurement]),
    ],
)
def test_values_are_read_back_as_they_were(value: Any, as_type: Any, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "state.json"
    assert State(path, resume=False).remember("kind", "key", as_type, lambda: value) == value
    state = State(path, resume=True)
    assert state.remember("kind", "key", as_type, unexpected) == value
    assert state.remember("kind", "other", as_type, lambda: value) == value
    assert State(path, resume=True).remember("kind", "key", as_type, unexpected) == value


def test_kinds_and_keys_do_not_mix(tmp_path: Path) -> None:
    state = State(tmp_path / "s.json", resume=False)
    for number, (kind, key) in enumerate([("a", "x"), ("a", "y"), ("b", "x")]):
        assert state.remember(kind, key, int, partial(int, number)) == number
    again = State(tmp_path / "s.json", resume=True)
    assert [again.remember(*where, int, unexpected) for where in (("b", "x"), ("a", "y"), ("a", "x"))] == [2, 1, 0]


def test_without_resume_all_begins_anew(tmp_path: Path) -> None:
    State(tmp_path / "s.json", resume=False).remember("a", "x", int, lambda: 1)
    assert State(tmp_path / "s.json", resume=False).remember("a", "x", int, lambda: 2) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a": 5}',
        b'{"a": [1]}',
        b'{"a": {"x": "many"}}',
        b'{"a": {"x": null}}',
    ],
)
def test_a_file_that_cannot_be_read_counts_as_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    assert State(path, resume=True).remember("a", "x", int, lambda: 7) == 7
    assert json.loads(path.read_text())["a"] == {"x": 7}


def test_a_place_that_cannot_be_written_only_costs_the_resuming(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    state = State(tmp_path / "file" / "s.json", resume=True)
    with caplog.at_level(logging.WARNING):
        assert [state.remember("a", str(i), int, partial(int, i)) for i in range(3)] == [0, 1, 2]
    assert state.remember("a", "1", int, unexpected) == 1
    assert len(caplog.messages) == 1 and "REUSE_CACHE" in caplog.messages[0]


class TestPath:
    @pytest.fixture
    def path(self) -> Callable[..., Path]:
        def path(model: onnx.ModelProto | None = None, data: str = "d", **options: Any) -> Path:
            return state_path([model or network()], data, CalibrationOptions(**options))

        return path

    def test_the_accuracy_budget_does_not_count(self, path: Callable[..., Path]) -> None:
        """So that the numbers serve for another one."""
        for options in ({"max_drop": 0.1}, {"at_least": 0.5}, {"metric": "kl"}, {"objective": "operations"}):
            assert path(**options) == path()

    def test_all_that_numbers_depend_on_counts(self, path: Callable[..., Path]) -> None:
        other = network()
        other.graph.initializer[0].raw_data = np.zeros(8 * 3 * 9, np.float32).tobytes()
        options: list[dict[str, Any]] = [
            {"seed": 1}, {"family": "sign"}, {"scope": "image"}, {"budget": "quick"}, {"threads": 2}, {"holdout": 0.2},
            {"layers": "a"}, {"exclude": "a"}, {"shapes": {"x": (1, 3, 8, 8)}},
        ]  # fmt: skip
        paths = [path(), path(other), path(data="e"), *(path(**own) for own in options)]
        assert len(set(paths)) == len(paths)

    def test_it_lies_in_the_cache(
        self, path: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REUSE_CACHE", str(tmp_path))
        assert path().parent == tmp_path / "calibration"
        monkeypatch.delenv("REUSE_CACHE")
        assert path().parent == Path.home() / ".cache" / "reuse-compiler" / "calibration"


@pytest.mark.parametrize("field", ["dense_ms", "reuse_ms", "r_c", "operations"])
@pytest.mark.parametrize("number", ["-1.0", '"-Infinity"', '"NaN"'])
def test_a_measurement_that_cannot_be_is_made_again(field: str, number: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    State(path, resume=False).remember("layers", "key", list[Measurement], lambda: [MEASUREMENT])
    content = json.loads(path.read_text())
    content["layers"]["key"][0][field] = json.loads(number)
    path.write_text(json.dumps(content))
    again = State(path, resume=True).remember("layers", "key", list[Measurement], lambda: [MEASUREMENT])
    assert again == [MEASUREMENT]
