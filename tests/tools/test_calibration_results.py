"""The tool behind docs/results/calibration.md, on a small network with random weights, and on what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from models import builders, preprocessing
from models.datasets import DataMissingError
from models.graph_writer import GraphWriter
from models.preprocessing import Preprocessing
from reuse_compiler.calibration.metrics import make_metric, model_outputs
from reuse_compiler.calibration.samples import open_samples
from reuse_compiler.reports.figures import SERIES
from reuse_compiler.verification.inputs import model_inputs
from tests.conftest import ReadImages
from tools.calibration_results.calibrations import CommandError, Variant, commands, earlier, variants
from tools.calibration_results.measure import LEAST_ROUNDS, compare, rounds_of
from tools.calibration_results.network import Request, measure_network, reached
from tools.calibration_results.networks import NETWORKS, Goal, Network
from tools.calibration_results.page import write_page
from tools.calibration_results.pictures import FILM_VARIABLE, Pictures, frames, pages
from tools.calibration_results.prepare import CHUNK, prepare
from tools.calibration_results.results import NetworkResult, VariantResult, result_path

SIZE, BATCH = 16, 8
PLAIN = Preprocessing(mean=(128.0,) * 3, scale=(64.0,) * 3)
CLASSES = 10


class Squares:
    """Random pictures of a few colours each, in squares of 4x4 pixels, with random labels."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed

    def __call__(self, limit: int | None = None) -> Pictures:
        rng = np.random.default_rng(self._seed)
        count = self._count if limit is None else min(limit, self._count)
        cells = rng.integers(0, 256, (self._count, SIZE // 4, SIZE // 4, 3), dtype=np.uint8)[:count]
        images = list(cells.repeat(4, axis=1).repeat(4, axis=2))
        labels = rng.integers(0, CLASSES, self._count)[:count]
        return Pictures(images, labels, f"{count} pictures of squares")


def classifier() -> onnx.ModelProto:
    """A network whose second layer gains so much by reuse (4 to 9 times) that a busy machine does not hide it."""
    net = builders.SequentialBuilder("small", SIZE, weights=None, seed=0)
    net.conv("conv1", 32, kernel=3, pad=1)
    net.conv("conv2", 128, kernel=5, pad=2)
    net.max_pool("pool", kernel=2, stride=2)
    net.flatten()
    net.fully_connected("fc", CLASSES, relu=False)
    return net.build()


def small_network(model: onnx.ModelProto | None = None, count: int = 4 * BATCH) -> Network:
    return Network(
        name="cifarnet",
        title="A small network",
        model=lambda: classifier() if model is None else model,
        preprocessing=PLAIN,
        calibration=Squares(count, 1),
        held_out=Squares(count, 2),
        goal=Goal(largest_drop=1.0, least_speedup=1e6, dense=frozenset({"conv1"})),
        metric="top1",
        max_drop=1.0,
        exclude="^conv1$",
        batch=BATCH,
        objective="operations",  # which does not depend on what else the machine does
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[NetworkResult, Path]:
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REUSE_CACHE", str(folder / "cache"))
        return measure_network(small_network(), Request(budget="quick", on_int8=True, work=folder)), folder


def test_measures_all_variants(measured: tuple[NetworkResult, Path]) -> None:
    result, folder = measured
    variants = {variant.name: variant for variant in result.variants}
    assert list(variants) == ["original", "onnxruntime int8", "learned", "sign", "int8 learned"]
    assert variants["original"].change == variants["original"].output_error == 0.0
    assert 0.0 < variants["onnxruntime int8"].output_error < 0.2
    assert result.rounds >= LEAST_ROUNDS and all(variant.median_ms > 0 for variant in result.variants)
    for name in ("learned", "sign"):
        assert [layer.name for layer in variants[name].layers] == ["conv2"]
        ratio = variants[name].layers[0].r_c
        assert ratio is not None
        assert 0.0 < ratio < 1.0
        assert variants[name].layers[0].settings.family == name
    (static,) = variants["int8 learned"].layers
    assert static.name.startswith("conv2") and static.settings.scope == "static"
    assert [goal.reached for goal in result.goals] == [True, False, True]
    assert result.peak_bytes > 2**20
    assert all(run.peak_bytes > 2**20 and run.seconds > 0 for run in result.calibrations)
    assert (folder / "cifarnet" / "learned" / "report.html").is_file()


def test_the_calibration_is_that_of_the_printed_command(measured: tuple[NetworkResult, Path]) -> None:
    result, folder = measured
    learned = result.calibrations[0]
    work = folder / "cifarnet"
    assert learned.command.startswith(f"reuse-calibrate {work / 'model.onnx'} --data {work / 'calibration.npy'} ")
    options = learned.report.options
    assert (options["metric"], options["max_drop"], options["exclude"]) == ("top1", 1.0, "^conv1$")
    assert (options["family"], options["budget"], options["reconstruct"]) == ("learned", "quick", "weights")
    assert options["shapes"] == {"x": [BATCH, 3, SIZE, SIZE]}
    assert not learned.report.pictures and not learned.report.trials
    assert all(not layer.measurements for layer in learned.report.layers)
    assert set(learned.report.reconstruction) == {"weights"}  # the budget is quick


def test_one_kind_of_clusters_is_asked_for_by_scope(tmp_path: Path) -> None:
    network = small_network(count=BATCH)
    files = prepare(network, tmp_path)
    asked = variants("quick", reconstruct=False, scopes=True)
    assert [variant.name for variant in asked] == ["learned", "sign", "learned batch", "learned static"]
    scopes = [commands(network, files, variant)[0] for variant in asked]
    assert [words[words.index("--scope") + 1] if "--scope" in words else None for words in scopes] == [
        None,
        None,
        "batch",
        "static",
    ]


def test_the_page_shows_what_the_json_says(measured: tuple[NetworkResult, Path], tmp_path: Path) -> None:
    result, _ = measured
    again = NetworkResult.model_validate_json(result.model_dump_json())
    assert again == result
    for name, title in (("craft", "Second"), ("cifarnet", "First")):
        other = result.model_copy(update={"title": title})
        result_path(tmp_path, name).write_text(other.model_dump_json(), encoding="utf-8")
    text = write_page(tmp_path).read_text(encoding="utf-8")
    assert text.index("## First") < text.index("## Second")
    for run in result.calibrations:
        assert f"    {run.command}\n    {run.compile_command}\n" in text
    assert "| original |" in text
    assert "| sign (1 of 2 convolutions) |" in text
    assert "| learned | weights |" in text
    assert "Only a trial" not in text
    picture = (tmp_path / "calibration.svg").read_text(encoding="utf-8")
    assert all(f">{text}</text>" in picture for text in ("First", "Second")) and "times as fast" in picture
    trial = result.model_copy(update={"limit": 3})
    result_path(tmp_path, "craft").write_text(trial.model_dump_json(), encoding="utf-8")
    assert "Only a trial of the tool, with 3 pictures" in write_page(tmp_path).read_text(encoding="utf-8")


def test_the_picture_has_a_line_of_its_own_for_every_network(
    measured: tuple[NetworkResult, Path], tmp_path: Path
) -> None:
    """There are fewer colours than networks."""
    for name in NETWORKS:
        other = measured[0].model_copy(update={"title": f"Network {name}"})
        result_path(tmp_path, name).write_text(other.model_dump_json(), encoding="utf-8")
    write_page(tmp_path)
    picture = (tmp_path / "calibration.svg").read_text(encoding="utf-8")
    assert all(f">Network {name}</text>" in picture for name in NETWORKS)
    legend = picture.partition('<g id="legend_1">')[2]
    strokes = re.findall(r'<path d="M [^"]*L [^"]*"[^>]*style="fill: none;([^"]*)"', legend)
    assert len(set(strokes)) == len(strokes) == len(NETWORKS) > len(SERIES)


def test_earlier_calibrations_are_taken_up(measured: tuple[NetworkResult, Path]) -> None:
    result, folder = measured
    files = prepare(small_network(), folder / "cifarnet")
    run, model = earlier(files, Variant("learned", "learned", "quick"))
    assert run == result.calibrations[0]
    assert model.is_file()
    with pytest.raises(CommandError, match="no earlier calibration exact"):
        earlier(files, Variant("exact", "exact", "quick"))


def one_convolution(weight: NDArray[np.float32]) -> onnx.ModelProto:
    graph = GraphWriter("one", ("N", 3, SIZE, SIZE))
    graph.conv("x", weight, np.zeros(len(weight), np.float32), "conv", pad=1)
    return graph.build("y", ("N", len(weight), SIZE, SIZE))


def test_every_sample_counts_once_however_many_rounds(
    tmp_path: Path, run_model: Callable[[onnx.ModelProto, NDArray[np.float32]], NDArray[Any]]
) -> None:
    """Three samples, seven rounds: the metric of the first one must not weigh more."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((2, 3, 3, 3)).astype(np.float32)
    x = (
        rng.standard_normal((3, 3, SIZE, SIZE)).astype(np.float32)
        * np.array([1, 2, 3], np.float32)[:, None, None, None]
    )
    np.save(tmp_path / "x.npy", x)
    original, other = one_convolution(weight), one_convolution(1.5 * weight)
    samples = open_samples(tmp_path / "x.npy", model_inputs(original), {})
    metric = make_metric("mse", model_outputs(original), has_labels=False)
    first, second = compare({"original": original, "other": other}, {}, samples, metric)
    expected = run_model(original, x)
    assert rounds_of(samples) == LEAST_ROUNDS
    assert (first.metric, first.change) == (0.0, 0.0)
    assert second.metric == pytest.approx(np.square(0.5 * expected).mean(), rel=1e-4)
    assert second.change == -second.metric
    assert second.output_error == pytest.approx(0.5, rel=1e-4)


def test_writes_the_data_as_the_preprocessing_makes_it(tmp_path: Path) -> None:
    network = small_network(one_convolution(np.zeros((1, 3, 3, 3), np.float32)), count=CHUNK + 3)
    files = prepare(network, tmp_path)
    pictures = network.calibration()
    assert np.array_equal(np.load(files.calibration.inputs), PLAIN(pictures.images))
    assert files.calibration.labels is not None
    assert pictures.labels is not None
    assert np.array_equal(np.load(files.calibration.labels), pictures.labels)
    assert files.calibration.run_shape(5) == (5, 3, SIZE, SIZE)
    assert len(np.load(prepare(network, tmp_path, limit=2).held_out.inputs)) == 2


@pytest.mark.parametrize(
    ("goal", "change", "metric", "speedup", "expected"),
    [
        (Goal(largest_drop=0.005), -0.005, 0.8, 1.0, [True]),
        (Goal(largest_drop=0.005), -0.006, 0.8, 1.0, [False]),
        (Goal(largest_drop=0.0), 0.01, 0.8, 1.0, [True]),
        (Goal(least_value=35.0, least_speedup=1.8), -np.inf, 35.2, 1.79, [True, False]),
        (Goal(), 0.0, 0.0, 0.0, []),
    ],
)
def test_goals(goal: Goal, change: float, metric: float, speedup: float, expected: list[bool]) -> None:
    judged = VariantResult(
        name="learned", metric=metric, change=change, output_error=0.1, median_ms=1.0, speedup=speedup
    )
    assert [each.reached for each in reached(goal, "top1", [judged], [])] == expected


def test_an_infinite_metric_survives_the_json_file() -> None:
    """As the PSNR of the original against itself."""
    result = VariantResult(name="original", metric=np.inf, change=-np.inf, output_error=0, median_ms=1, speedup=1)
    assert VariantResult.model_validate_json(result.model_dump_json()) == result


def test_the_data_of_calibration_and_judgement_are_apart(read_images: ReadImages) -> None:
    read_images("imagenet_sample", 1)
    network = NETWORKS["squeezenet"]
    parts = network.calibration(4), network.held_out(4)
    assert parts[0].labels is not None
    assert parts[1].labels is not None
    assert not set(parts[0].labels) & set(parts[1].labels)
    assert {image.shape for part in parts for image in part.images} == {(224, 224, 3)}


def test_pages_of_both_parts_are_enough_and_apart() -> None:
    network = NETWORKS["craft"]
    calibration, held_out = network.calibration(), network.held_out()
    assert len(calibration.images) >= 16
    assert len(held_out.images) >= 6
    different = {image.tobytes() for part in (calibration, held_out) for image in part.images}
    assert len(different) == len(calibration.images) + len(held_out.images)
    assert preprocessing.CRAFT(calibration.images[:1]).shape == (1, 3, 640, 480)
    assert len(pages(["README.md"])(limit=2).images) == 2


def test_lines_of_both_parts_are_enough_and_have_text() -> None:
    network = NETWORKS["easyocr_english"]
    parts = network.calibration(), network.held_out()
    assert [len(part.images) for part in parts] == [160, 90]
    assert {image.shape for part in parts for image in part.images} == {(64, 320, 3)}
    assert all(np.ptp(image) > 64 for part in parts for image in part.images)
    assert not {image.tobytes() for image in parts[0].images} & {image.tobytes() for image in parts[1].images}
    assert [image.tobytes() for image in network.calibration(3).images] == [
        image.tobytes() for image in parts[0].images[:3]
    ]


def test_photos_of_the_detector_are_wide_and_undistorted(read_images: ReadImages) -> None:
    (photo,), _ = read_images("imagenet_sample", 1)
    (image,) = NETWORKS["yolov3_tiny"].calibration(1).images
    assert image.shape == (416, 416, 3)
    assert not image[:91].any() and not image[-91:].any()
    middle = np.asarray(Image.fromarray(photo[56:200]).resize((416, 234)))
    np.testing.assert_array_equal(image[91:-91], middle)
    parts = NETWORKS["yolov3_tiny"].calibration(), NETWORKS["yolov3_tiny"].held_out()
    assert len({image.tobytes() for part in parts for image in part.images}) == 300


def test_weights_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builders, "WEIGHTS", tmp_path)
    with pytest.raises(DataMissingError, match=r"python -m models\.train cifar_vgg"):
        NETWORKS["cifar_vgg"].model()


def test_a_film_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setenv(FILM_VARIABLE, str(tmp_path / "none.avi"))
    with pytest.raises(DataMissingError, match=f"opencv-doc.*{FILM_VARIABLE}"):
        frames(0, 2, 5)()


def test_frames_come_from_different_times() -> None:
    pytest.importorskip("cv2")
    try:
        found = frames(first=10, count=3, distance=50)()
    except DataMissingError as error:
        pytest.skip(str(error))
    assert {image.shape for image in found.images} == {(288, 384, 3)}
    assert len({image.tobytes() for image in found.images}) == 3
    assert "number 10 to 110" in found.words
