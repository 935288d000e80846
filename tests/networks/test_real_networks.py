"""Real trained networks on real images, compiled and run: what the whole project is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import reuse_compiler
from models import builders, datasets, packaged, preprocessing
from reuse_compiler.compiler import compile_file
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.choose_parameters import choose_parameters, plan_of
from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.pipeline import apply_plan, find_layers
from reuse_compiler.reuse.fitted import Fitted
from tests.comparison import assert_close, relative_error
from tests.conftest import ReadImages

Batch = npt.NDArray[np.float32]

CLASSIFIERS = ["cifarnet", "squeezenet", "efficientnet_lite0"]
DETECTORS = {"hed": (160, 224), "craft": (160, 224), "ppocr_detection": (160, 224)}
"""Networks for inputs of any size, and the size of the piece of a photo that they get."""

ONE_LAYER = {
    "cifarnet": r"^conv2$",
    "squeezenet": r"fire4/expand3x3",
    "efficientnet_lite0": r"blocks\.5\._expand_conv",
    "hed": r"^conv2_1$",
    "craft": r"slice2\.14",
    "ppocr_detection": r"^p2o\.Conv\.4$",
}


@pytest.fixture
def network(packaged_model: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Returns the ONNX file of a network by name."""

    def find(name: str) -> Path:
        if name != "cifarnet":
            return packaged_model(name)
        path = tmp_path / "cifarnet.onnx"
        onnx.save(builders.trained("cifarnet"), path)
        return path

    return find


@pytest.fixture
def photos(read_images: ReadImages) -> Callable[[str, int], Batch]:
    """Returns a batch of preprocessed real images for a network."""

    def read(name: str, count: int) -> Batch:
        if name == "cifarnet":
            return preprocessing.CIFAR10(read_images("cifar10_test", count)[0])
        images = read_images("imagenet_sample", count)[0]
        if name in DETECTORS:
            height, width = DETECTORS[name]
            cut = [image[:height, :width] for image in images]
        else:
            cut = datasets.centre_crop(images)
        return packaged.REGISTRY[name].preprocessing(cut)

    return read


def run(model: Path, x: Batch) -> npt.NDArray[np.float32]:
    session = reuse_compiler.session(model)
    result: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


def compile_with(model: Path, folder: Path, x: Batch, **options: object) -> tuple[Path, int]:
    """Compiles for inputs of the shape of `x`; returns the result and how many layers were rewritten."""
    output = folder / "compiled.onnx"
    shape = {reuse_compiler.session(model).get_inputs()[0].name: x.shape}
    report = compile_file(model, output, CompileOptions.model_validate({"shapes": shape, **options}), verify=False)
    return output, sum(layer.decision == "reuse" for layer in report.layers)


@pytest.mark.network
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_lossless_reuse_keeps_the_top_1_of_every_image(
    name: str, network: Callable[[str], Path], photos: Callable[[str, int], Batch], tmp_path: Path
) -> None:
    model, x = network(name), photos(name, 200 if name == "cifarnet" else 24)
    compiled, rewritten = compile_with(model, tmp_path, x[:8], family="exact", force=True)
    assert rewritten >= 2
    sessions = [reuse_compiler.session(path) for path in (model, compiled)]
    for start in range(0, len(x), 8):
        feeds = {sessions[0].get_inputs()[0].name: x[start : start + 8]}
        expected, actual = (session.run(None, feeds)[0] for session in sessions)
        assert_close(actual, expected, rtol=1e-3, what=f"{name} from image {start}")
        np.testing.assert_array_equal(actual.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.network
@pytest.mark.parametrize("name", DETECTORS)
def test_lossless_reuse_keeps_the_maps_of_detectors(
    name: str, network: Callable[[str], Path], photos: Callable[[str, int], Batch], tmp_path: Path
) -> None:
    model, x = network(name), photos(name, 2)
    compiled, rewritten = compile_with(model, tmp_path, x, family="exact", force=True)
    assert rewritten >= 10
    assert_close(run(compiled, x), run(model, x), rtol=1e-3, what=name)
    smaller = np.ascontiguousarray(x[:1, :, :96, :128])  # another batch size, height and width: all are dynamic
    assert_close(run(compiled, smaller), run(model, smaller), rtol=1e-3, what=f"{name}, smaller")


@pytest.mark.network
@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("name", [*CLASSIFIERS, *DETECTORS])
def test_hashed_reuse_runs_and_stays_near(
    name: str, lowering: str, network: Callable[[str], Path], photos: Callable[[str, int], Batch], tmp_path: Path
) -> None:
    """One layer with many hyperplanes: an approximation, so near the original but not equal."""
    model, x = network(name), photos(name, 2)
    layer = ONE_LAYER[name]
    compiled, rewritten = compile_with(
        model, tmp_path, x, family="sign", num_hashes=24, force=True, layers=layer, lowering=lowering
    )
    assert rewritten == 1
    error = relative_error(run(compiled, x), run(model, x))
    assert 0 < error < 0.5, f"{name}: relative error {error}"


@pytest.mark.network
def test_rounding_of_a_saturated_output_is_no_defect(network: Callable[[str], Path], tmp_path: Path) -> None:
    """PP-OCR gives values of about 1e-6 on noise, of which rounding is a large part."""
    options = CompileOptions.model_validate({"family": "exact", "force": True, "shapes": {"x": (1, 3, 96, 96)}})
    report = compile_file(network("ppocr_detection"), tmp_path / "out.onnx", options)
    assert report.max_abs_error is not None and report.max_abs_error < 1e-5


@pytest.mark.network
@pytest.mark.parametrize("name", [*CLASSIFIERS, *DETECTORS, "open_nsfw"])
def test_the_default_command_gives_a_model_that_runs(
    name: str, network: Callable[[str], Path], photos: Callable[[str, int], Batch], tmp_path: Path
) -> None:
    model, x = network(name), photos(name, 1)
    compiled, _ = compile_with(model, tmp_path, x)
    expected, actual = run(model, x), run(compiled, x)
    assert actual.shape == expected.shape and np.isfinite(actual).all()


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "pools"),
    [("cifarnet", 1), ("craft", 3), ("hed", 4), ("squeezenet", 1)],
)
def test_data_stay_pixel_major_between_layers(
    name: str, pools: int, network: Callable[[str], Path], photos: Callable[[str, int], Batch], tmp_path: Path
) -> None:
    """The result is bit for bit that of the same layers in NCHW."""
    model, x = network(name), photos(name, 2)
    compiled, rewritten = compile_with(model, tmp_path, x, family="sign", num_hashes=12, force=True)
    assert rewritten >= 2
    nodes = onnx.load(compiled).graph.node
    assert sum(node.op_type in ("MaxPool", "AveragePool") and node.domain == DOMAIN for node in nodes) == pools
    assert any(attribute.name == "input_perm" for node in nodes for attribute in node.attribute)
    prepared = find_layers(onnx.load(model), {reuse_compiler.session(model).get_inputs()[0].name: x.shape})
    options = CompileOptions(family="sign", num_hashes=12, force=True)
    plan = plan_of(choose_parameters(prepared.layers, options, None, Fitted(), {}))
    onnx.save(apply_plan(prepared, plan, keep_order=True).model, tmp_path / "nchw.onnx")
    np.testing.assert_array_equal(run(compiled, x), run(tmp_path / "nchw.onnx", x))
