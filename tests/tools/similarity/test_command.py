"""The command `python -m tools.similarity`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import base64
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from tests.reports.reading import Page
from tests.running import run_command
from tools.similarity.__main__ import app
from tools.similarity.report import SimilarityReport

Run = Callable[..., Result]
SMALL = ("--layer", "conv1", "--batch", "4", "--clusters", "2,0.1", "-H", "6", "--bins", "3", "-L", "whole,9")


@pytest.fixture
def study(model: Path) -> Run:
    """Runs the command on eight random images, with the given arguments."""
    np.save(model.parent / "x.npy", np.random.default_rng(0).standard_normal((8, 3, 12, 12)).astype(np.float32))
    return partial(run_command, app, model, "--data", model.parent / "x.npy", "-o", model.parent / "out")


def test_prints_what_it_writes_and_the_page_holds_figures_and_all_points(study: Run, model: Path) -> None:
    result = study(*SMALL)
    assert result.exit_code == 0, result.stderr
    report = SimilarityReport.model_validate_json((model.parent / "out" / "similarity.json").read_text())
    (layer,) = report.layers
    assert (layer.name, layer.N, layer.K, layer.M) == ("conv1", 4 * 144, 27, 64)
    assert len(layer.points) == 2 * 2 * 2 * (2 + 1 + 1)
    assert "conv1  N=576 per batch, K=27, M=64" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    for point in layer.points:
        size = ["whole", "(27)"] if point.whole else ["sub", "(9)"]
        start = rows.index(next(r for r in rows if r[:5] == [point.method, point.scope, *size, point.metric]))
        numbers = [cell for row in rows[start : start + 2] for cell in row]
        assert f"{point.accuracy:.3f}" in numbers and f"{point.output_error:.2g}" in numbers
    assert "accuracy       agreement with the original; of the original 1.0000" in result.stdout
    page = Page((model.parent / "out" / "similarity.html").read_text(encoding="utf-8"))
    page.check()
    (source,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    figure = ElementTree.fromstring(base64.b64decode(source.partition(",")[2]))
    words = {"".join(each.itertext()).strip() for each in figure.iter() if each.tag.endswith("text")}
    assert {"K-means", "Hyper-Cube", "LSH", "agreement with the original", "image-whole-angular"} <= words
    assert "batch-sub 9-euclidean" in words
    assert [value for _, name, value in page.attributes if name == "data-label"].count("Layer error") == 32


def test_a_layer_of_which_nothing_was_measured(study: Run, model: Path) -> None:
    result = study("--layer", "conv1", "--methods", "kmeans", "--clusters", "4", "--max-clusters", "1")
    assert result.exit_code == 0, result.stderr
    page = Page((model.parent / "out" / "similarity.html").read_text(encoding="utf-8"))
    assert "All 0 points" in page.text and "takes too long" in page.text and "takes too long" in result.stdout


def test_again_and_the_same_figures_every_time(study: Run, model: Path) -> None:
    page = model.parent / "out" / "similarity.html"
    first = study(*SMALL, "--json")
    pages = [page.read_text(encoding="utf-8")]
    report = SimilarityReport.model_validate_json(first.stdout)
    refused = study(*SMALL)
    assert refused.exit_code == 1 and "similarity.json exists already" in refused.stderr
    second = study(*SMALL, "--json", "--overwrite")
    pages.append(page.read_text(encoding="utf-8"))
    assert SimilarityReport.model_validate_json(second.stdout).layers == report.layers
    assert len({re.sub(r"<dt>time</dt><dd>\d+ s", "", text) for text in pages}) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--methods", "kmeans,voronoi"), "--methods: "),
        (("--clusters", "0"), "--clusters: 0 is too small"),
        (("-L", "short"), "-L: "),
        (("--layer", "("), "--layer: '(' is not a regular expression"),
        (("--layer", "conv9"), "'conv9' is found in no name of a convolution"),
        (("--samples", "0"), "'--samples': "),
    ],
)
def test_wrong_flags_end_with_a_sentence(study: Run, model: Path, arguments: tuple[str, ...], sentence: str) -> None:
    result = study(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and sentence in result.stderr
    assert not (model.parent / "out" / "similarity.json").exists()


def test_without_the_extra_nothing_is_computed(study: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = study(*SMALL)
    assert result.exit_code == 1
    assert "pip install 'reuse-compiler[report]'" in result.stderr
    assert not (model.parent / "out").exists()
