"""The study of clusters across batches: R from codes is what sessions count, and the page shows what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reuse_compiler
from models import datasets, preprocessing
from models.datasets import DataMissingError, RgbImage
from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.pipeline import apply_plan, find_layers
from reuse_compiler.reuse.config import FamilyName
from reuse_compiler.verification.sessions import open_session
from tests.regions.models import SIZE, chain
from tools.clusters_across_batches.measure import KnownCodes, Network, clustering_of, compare, measure_rates, plan_for
from tools.clusters_across_batches.page import write_page
from tools.clusters_across_batches.results import AcrossBatches

SMALL = Network("small", chain, preprocessing.HED, "cifar10_test", 1, SIZE, {"one": (9, 6), "two": (8, 4)})


def photos(name: str, count: int) -> tuple[list[RgbImage], np.ndarray]:
    """Pictures of few large pixels, as alike as photos are."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, SIZE // 4, SIZE // 4, 3), np.uint8)
    return list(coarse.repeat(4, axis=1).repeat(4, axis=2)), np.arange(count) % 16


@pytest.fixture
def _photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "images", photos)


@pytest.mark.usefixtures("_photos")
@pytest.mark.parametrize("family", ["sign", "learned"])
def test_r_from_codes_is_that_of_a_session(family: FamilyName) -> None:
    model, inputs = chain(), [x for x, _ in SMALL.inputs(4)]
    prepared = find_layers(model, {"x": inputs[0].shape})
    layer = prepared.convolutions["one"]
    plan = plan_for(layer, family, (3, 5), inputs[0], "session")
    session = open_session(apply_plan(prepared, {"one": plan}).model, 1, "the network")
    known, clustering = KnownCodes(plan.settings.blocking(layer.spec).num_blocks), clustering_of(plan)
    before, rates = 0, []
    for x in inputs:
        session.run(None, {"x": x})
        node = next(node for node in reuse_compiler.statistics(session) if node.node == "one")
        clusters = clustering.clusters(x)
        rates.append(known.rate(clusters))
        assert rates[-1] == (node.known - before) / clusters.ids.size
        assert node.kept_clusters == len(known)
        before = node.known
    assert rates[0] == 0.0 and 0.3 < rates[1] <= rates[-1] <= 1.0


@pytest.mark.usefixtures("_photos")
def test_the_page_shows_every_layer_and_what_cluster_reuse_costs(tmp_path: Path) -> None:
    rates = measure_rates(SMALL, 3)
    assert [(own.layer, own.family) for own in rates.layers] == [
        (layer, family) for family in ("sign", "learned") for layer in ("one", "two", "three", "four")
    ]
    assert all(own.rates[0] == 0.0 and len(own.rates) == 3 and own.kept for own in rates.layers)
    comparisons = compare(SMALL, 4)
    assert [own.layers for own in comparisons[:5]] == ["one", "two", "three", "four", "one and two and three and four"]
    assert all(0.0 < own.rate <= 1.0 and own.images == 4 for own in comparisons)
    study = AcrossBatches(
        command="python -m it", machine=describe_machine(), networks=[rates], comparisons=comparisons[4:5]
    )
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib: pip install reuse-compiler[report]")
    page = write_page(tmp_path, study).read_text(encoding="utf-8")
    first = rates.layers[0]
    assert f"| small one | sign | 9 | 6 | {first.kept:,} | {first.rates[1]:.4f}, {first.rates[2]:.4f} |" in page
    assert f"| one and two and three and four | sign | {comparisons[4].L} | {comparisons[4].H} |" in page
    assert "<svg" in (tmp_path / "clusters_across_batches.svg").read_text(encoding="utf-8")


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        raise DataMissingError("no sample data")

    monkeypatch.setattr(datasets, "images", nothing)
    found = measure_rates(SMALL)
    assert not found.layers and found.missing == "no sample data"
