"""The tool that measures the accuracy of static clusters, on a small network; and the page's numbers."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from models.graph_writer import GraphWriter
from reuse_compiler.progress import silent
from tools import static_results
from tools.static_results import Form, Judge, Results, measure, print_lines

SIZE = 8
RESULTS = Path("docs/results/static.json")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_results, "BATCH", 4)


@pytest.mark.usefixtures("small_batches")
def test_every_form_is_judged_on_all_images() -> None:
    """Enough clusters for the few colours that there are: static ones are as exact as those of a batch."""
    rng, net = np.random.default_rng(0), GraphWriter("small", ["N", 3, SIZE, SIZE])
    first = net.relu(net.conv("x", rng.standard_normal((8, 3, 1, 1)), name="conv1"))
    second = net.conv(first, rng.standard_normal((5, 8, 3, 3)), name="conv2", pad=1)
    net.node("Flatten", [net.node("GlobalAveragePool", [second])], name="y")
    model = net.build(net.node("Flatten", [net.node("GlobalAveragePool", [second])]), ["N", 5])
    colours = rng.standard_normal((6, 3)).astype(np.float32)
    images = colours[rng.integers(0, 6, (16, SIZE, SIZE))].transpose(0, 3, 1, 2).copy()
    judge = Judge.of(model, images[8:], rng.integers(0, 5, 8))
    forms = (Form("static", 4, 5, ((4, "float"), (4, "int8"))), Form("batch", 4, 7, ((1, "float"),)))
    layers, lines = measure(model, "conv1", images[:8], judge, forms, silent)
    assert layers == 1
    assert [(own.scope, own.weights, own.table, own.batch) for own in lines] == [
        ("static", "as is", "float", 4),
        ("static", "as is", "int8", 4),
        ("static", "refitted", "float", 4),
        ("static", "refitted", "int8", 4),
        ("batch", "as is", "float", 1),
        ("batch", "refitted", "float", 1),
    ]
    assert all(own.output_error < (0.1 if own.table == "int8" else 1e-3) for own in lines)
    assert all(own.top1 == judge.top1() and own.standard_error == 0.0 for own in lines if own.table == "float")
    stream = io.StringIO()
    print_lines(judge.top1(), lines, Console(file=stream, width=120))
    assert stream.getvalue().count("static, L=4, H=5") == 4


def test_the_page_has_the_numbers_of_the_file() -> None:
    results = Results.model_validate(json.loads(RESULTS.read_text(encoding="utf-8")))
    text = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| (static|batch)", line)]
    assert [row.split("|")[5].strip() for row in rows] == [f"{own.top1:.4f}" for own in results.lines]
    assert f"{results.original:.4f}" in text
