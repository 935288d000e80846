"""The tool that measures a pruned and quantised network: what it makes of weights, and the page's numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from models.graph_writer import GraphWriter
from tools.pruned_results import Results, compress

RESULTS = Path("docs/results/pruned.json")


def test_the_largest_weights_are_kept_on_a_grid_of_8_bits() -> None:
    rng, net = np.random.default_rng(0), GraphWriter("small", [1, 3, 8, 8])
    first = net.conv("x", rng.standard_normal((8, 3, 3, 3)), name="conv1")
    model = net.build(net.conv(first, rng.standard_normal((4, 8, 1, 1)), name="conv2"), [1, 4, 6, 6])
    before = [numpy_helper.to_array(each) for each in model.graph.initializer]
    after = [numpy_helper.to_array(each) for each in compress(model, {"conv1": 0.25}).graph.initializer]
    for old, new in zip(before, after, strict=True):
        if old.shape != (8, 3, 3, 3):
            np.testing.assert_array_equal(new, old)
            continue
        assert np.count_nonzero(new) == old.size // 4
        assert np.abs(old[new != 0]).min() > np.abs(old[new == 0]).max()
        steps = new / (np.abs(new).max(axis=(1, 2, 3), keepdims=True) / 127)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_the_page_has_the_numbers_of_the_file() -> None:
    results = Results.model_validate(json.loads(RESULTS.read_text(encoding="utf-8")))
    text = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z].*?) \| (0\.\d+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    times = {form.name: form.median_ms for form in results.forms}
    assert rows == [
        (
            form.name,
            f"{form.top1:.4f}",
            f"{form.median_ms:.2f}",
            f"{times['pruned, 8-bit weights'] / form.median_ms:.2f}",
        )
        for form in results.forms
    ]
    (second,) = (line for line in results.layers if line.layer == "conv2")
    speedups = [f"{second.dense_ms / ms:.2f}" for ms in second.reuse_ms.values()]
    assert f"| conv2 | {second.dense_ms:.2f} | {' | '.join(speedups)} |" in text
