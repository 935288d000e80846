"""The page of the papers: it is current, what it names is there, and what it measures is what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import datasets
from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.fitting.vectors import neuron_vectors
from reuse_compiler.progress import silent
from reuse_compiler.verification.sessions import open_session
from tests.regions.models import SIZE, chain
from tests.tools.similarity.test_study import classifier
from tools.papers import curves, results
from tools.papers.curves import Study, curves_of
from tools.papers.entries import PAPERS, Entry
from tools.papers.layers import LAYERS, PaperLayer, clustered, measure_layer, steady_inputs
from tools.papers.page import PAGE, page
from tools.papers.perforation import MASKS, grid, nearest, perforate

ENTRIES = [entry for paper in PAPERS for entry in paper.entries]
SMALL = PaperLayer("alexnet", "conv2", 16, 8, 3, 12, (4, 0.2, 1.0), (12, 4, 0.2, 1.0, 1.0), batch=4)


def test_the_page_is_current() -> None:
    pytest.importorskip("jinja2", reason="the page needs jinja2: pip install reuse-compiler[report]")
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tools.papers`"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.item)
def test_modules_and_tests_are_there(entry: Entry) -> None:
    for place in entry.where:
        file, _, name = place.partition("::")
        text = Path(file).read_text(encoding="utf-8")
        assert not name or re.search(rf"^ *def {name}\(", text, re.MULTILINE), place
    assert any(file.startswith("tests/") for file in entry.where) and not entry.where[0].startswith("tests/")


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.network} {layer.layer}")
def test_every_layer_is_the_papers(layer: PaperLayer) -> None:
    """K and M as in Table II, and settings that a layer can have; first layers take long to make."""
    if layer.channels > 3:
        hashes, length, r_c, *_ = layer.lsh
        case = layer.case(family="sign", num_hashes=hashes, sub_vector_length=length, remaining_ratio=r_c)
        assert case.distinct == round(r_c * case.spec.rows) <= 2**hashes
    k = layer.channels * layer.kernel**2
    assert k in (27, 75, 363, 576, 1152, 1600, 1728, 2304, 3456, 4608) and 64 <= layer.M <= 512


def test_the_papers_averages_are_those_of_its_rows() -> None:
    for network, averages in {"cifarnet": (2.05, 2.09), "alexnet": (2.41, 3.64), "vgg19": (2.26, 3.35)}.items():
        rows = [own.lsh[3:] for own in LAYERS if own.network == network]
        np.testing.assert_allclose(np.mean(rows, axis=0), averages, atol=0.006)


def test_a_small_layer_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    found = measure_layer(SMALL, 2, silent)
    assert found.K == 144 and found.lsh.r_c == found.session.r_c == pytest.approx(0.2, abs=0.01)
    assert found.session.reuse_rate and 0.9 < found.session.reuse_rate < 1.0
    assert set(found.speeds()) == {"cube", "lsh", "session", "trees", "static"}
    layers = results.Layers(machine=describe_machine(), repeats=2, layers=[found])
    results.write(layers, "layers")
    assert results.Layers.model_validate_json(results.path_of("layers").read_text(encoding="utf-8")) == layers


def test_windows_get_the_r_c_that_is_asked_for() -> None:
    first = replace(SMALL, channels=3, size=16)
    case = first.case(family="sign", num_hashes=15, sub_vector_length=9, remaining_ratio=0.1)
    assert case.blocking.layout == "patch" and 0.05 < clustered(case) < 0.2


def test_steady_inputs_repeat_as_the_first_does() -> None:
    case = SMALL.case(sub_vector_length=4, remaining_ratio=0.2)
    vectors = np.random.default_rng(0).standard_normal((16, 4, 4)).astype(np.float32)
    x = vectors[np.random.default_rng(1).integers(0, 16, (4, 12, 12))].reshape(4, 12, 12, 16).transpose(0, 3, 1, 2)
    seen: set[bytes] = set()
    for turned in steady_inputs(x.copy(), 4, 3):
        distinct = {own.tobytes() for own in neuron_vectors(turned, case.blocking)[1]}
        assert len(distinct) <= 32 and len(distinct - seen) >= 10
        seen |= distinct
        np.testing.assert_array_equal(turned[:3], x[:3])


@pytest.mark.parametrize("mask", MASKS)
def test_perforation_that_saves_nothing_changes_nothing(mask: str) -> None:
    x, model = np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32), chain()
    original, perforated = (
        open_session(own, 1, "it").run(None, {"x": x})[0] for own in (model, perforate(model, {"one": 1.0}, mask))
    )
    np.testing.assert_array_equal(original, perforated)


def test_perforation_takes_the_nearest_pixel_that_is_computed() -> None:
    assert len(grid(32, 32, 4.0)) == 256 and len(MASKS["scattered"](10, 10, 3.0)) == 33
    taken = nearest(grid(4, 4, 4.0), 4, 4).reshape(4, 4)
    np.testing.assert_array_equal(taken, [[5, 5, 5, 7], [5, 5, 5, 7], [5, 5, 5, 7], [13, 13, 13, 15]])


@pytest.mark.parametrize("method", ["lsh", "kmeans"])
def test_curves_of_a_small_study(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = list(np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8))
    images: Callable[..., object] = lambda *_: (photos, np.arange(8))  # noqa: E731
    monkeypatch.setattr(datasets, "images", images)
    monkeypatch.setattr(curves, "BATCH", 4)
    found = curves_of(Study("small", "conv1", method, (9, 0), 8), classifier(), silent)  # type: ignore[arg-type]
    assert {own.L for own in found} == {9, 27} and len(found) == (2 if method == "lsh" else 8)
    assert all(len(own.points) > 3 and own.images == 8 for own in found)
