"""The tool that measures models compiled without data."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from rich.console import Console

from models import datasets, preprocessing
from reuse_compiler.progress import silent
from tests.regions.models import chain
from tools import region_results
from tools.region_results import Network, images_of, measure, print_lines, resnet18

SIZE = (24, 24)


@pytest.fixture(autouse=True)
def _one_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    monkeypatch.setattr(datasets, "images", lambda *_: ([photo], np.zeros(1, np.int64)))
    monkeypatch.setattr(region_results, "ROUNDS", 2)


def test_a_line_for_each_kind_of_images() -> None:
    network = Network("small", chain, preprocessing.HED, SIZE)
    lines = measure(network, silent)
    assert [line.images for line in lines] == [
        f"{kind}, 24x24" for kind in ("photo", "letterboxed photo", "page", "page with noise")
    ]
    assert all(line.dense_ms > 0 and line.reuse_ms > 0 and line.max_abs_error < 1e-3 for line in lines)
    assert all(line.layers == line.ran == 0 for line in lines)  # too small for two forms
    stream = io.StringIO()
    print_lines(lines, Console(file=stream, width=120))
    assert "letterboxed photo, 24x24" in stream.getvalue()


def test_images_repeat_as_their_names_say() -> None:
    images = images_of(Network("small", chain, preprocessing.HED, SIZE))
    pixels = {kind: len(np.unique(x.reshape(3, -1), axis=1).T) for kind, x in images.items()}
    assert pixels["page with noise"] == 24 * 24 and pixels["photo"] > 0.9 * 24 * 24
    assert 0.9 * 13 * 24 < pixels["letterboxed photo"] <= 13 * 24 + 1
    assert pixels["page"] < 24 * 24


def test_the_residual_network_has_its_normalizations() -> None:
    model = resnet18()
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == kinds.count("BatchNormalization") == 20
    onnx.checker.check_model(model, full_check=True)
