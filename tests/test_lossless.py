"""Rounding noise is no defect, and a defect is found: both on models whose results are far from, and near to, zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from reuse_compiler.compiler import compile_file, layer_tensors
from reuse_compiler.errors import VerificationError
from reuse_compiler.lossless import _errors_alone, check_lossless
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.choose_parameters import choose_parameters
from reuse_compiler.passes.layer import Prepared
from reuse_compiler.pipeline import Lowered, carry_out, find_layers
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.plan import LayerWeights
from reuse_compiler.verification.data import Source
from reuse_compiler.verification.inputs import model_inputs
from reuse_compiler.verification.sessions import Measuring
from reuse_compiler.verification.sources import open_data
from reuse_compiler.verification.verify import Verification, Verifier
from tests.passes.models import EXACT, model_of, random_array, tensor, value
from tests.passes.test_keep_pixel_major import chain
from tests.passes.test_quantised import MODELS, integers

node = helper.make_node
Array = NDArray[np.float32]
GREY = np.float32(254 / 255)


def zero_mean(outputs: int, channels: int) -> Array:
    weights = random_array(outputs, channels, 3, 3)
    centred: Array = weights - weights.mean(axis=(1, 2, 3), keepdims=True)
    return centred


def model(nodes: list[onnx.NodeProto], channels: int, **constants: Any) -> onnx.ModelProto:
    tensors = [tensor(name, array) for name, array in constants.items()]
    return model_of(nodes, [value("x", [1, channels, 64, 64])], [value("y", None)], tensors)


EDGE = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32) * random_array(4, 1, 1, 1)
NEARLY_ZERO = {
    "an edge filter": model([node("Conv", ["x", "w"], ["y"])], 1, w=EDGE),
    "an activation that is off": model([node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])], 1, w=EDGE),
    "filters of mean zero": model([node("Conv", ["x", "w"], ["y"])], 3, w=zero_mean(8, 3)),
    "noise that is normalized": model(
        [
            node("Conv", ["x", "w"], ["c"]),
            node("InstanceNormalization", ["c", "s", "b"], ["n"]),
            node("Conv", ["n", "v"], ["y"]),
        ],
        3,
        w=random_array(8, 3, 3, 3),
        v=random_array(8, 8, 3, 3),
        s=np.ones(8, np.float32),
        b=np.zeros(8, np.float32),
    ),
}


@pytest.mark.parametrize("network", NEARLY_ZERO.values(), ids=NEARLY_ZERO.keys())
def test_rounding_noise_is_no_defect(network: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(network, tmp_path / "m.onnx")
    channels = network.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    np.save(tmp_path / "page.npy", np.full((1, channels, 64, 64), GREY))
    report = compile_file(tmp_path / "m.onnx", options=EXACT, verify_data=tmp_path / "page.npy")
    assert all(layer.decision == "reuse" for layer in report.layers)
    assert (tmp_path / "m.reuse.onnx").is_file()


def compiled(network: onnx.ModelProto) -> tuple[Prepared, Lowered]:
    # Without the inputs of function bodies, so that no constant stands for the original, too.
    options = EXACT.model_copy(update={"fallback": False})
    prepared = find_layers(network)
    return prepared, carry_out(prepared, choose_parameters(prepared.layers, options, None, Fitted(), {}), options)


def damaged(lowered: Lowered, name: str, factor: float) -> Lowered:
    """Returns the compiled model with one of its constants multiplied."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(lowered.model)
    constant = next(each for each in wrong.graph.initializer if each.name == name)
    constant.CopyFrom(tensor(name, numpy_helper.to_array(constant) * np.float32(factor)))
    return replace(lowered, rewritten=replace(lowered.rewritten, model=wrong))


def source_of(prepared: Prepared, folder: Path) -> Source:
    return open_data(folder / "data.npy", model_inputs(prepared.original), {})


def check(prepared: Prepared, lowered: Lowered, data: NDArray[Any], folder: Path) -> Verification:
    np.save(folder / "data.npy", data)
    source = source_of(prepared, folder)
    result = Verifier(prepared.original, lowered.model, source, Measuring(1, folder)).run(layer_tensors(lowered))
    check_lossless(prepared, lowered, result, source, Measuring(1, folder))
    return result


def two_layers() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "first"),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "v"], ["y"], "second"),
    ]
    return model(nodes, 3, w=random_array(8, 3, 3, 3), v=random_array(8, 8, 3, 3))


@pytest.mark.parametrize(("constant", "layer"), [("w", "first"), ("v", "second")])
def test_a_defect_in_a_layer_is_found(constant: str, layer: str, tmp_path: Path) -> None:
    prepared, lowered = compiled(two_layers())
    images = random_array(2, 3, 64, 64)
    error = check(prepared, lowered, images, tmp_path).rel_error
    assert error is not None and error < 1e-5
    with pytest.raises(VerificationError, match=f"layer '{layer}' is .* times as far .* as rounding can be"):
        check(prepared, damaged(lowered, constant, 1.002), images, tmp_path)


@pytest.mark.parametrize("kind", ["bias per channel", "weights of uint8", "one dimension"])
def test_a_defect_in_a_layer_of_bytes_is_found(kind: str, tmp_path: Path) -> None:
    """Integers are not rounded, so that nothing but the very bytes is right."""
    prepared, lowered = compiled(MODELS[kind])
    shape = [dim.dim_value for dim in prepared.original.graph.input[0].type.tensor_type.shape.dim]
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert check(prepared, lowered, images, tmp_path).layer_errors == {"conv": 0.0}
    ((_, error),) = _errors_alone(prepared, lowered, source_of(prepared, tmp_path), Measuring(1, tmp_path))
    assert error == 0.0
    wrong = damaged(lowered, "y_s", 1.1)
    with pytest.raises(VerificationError, match="layer 'conv' has other values than the original"):
        check(prepared, wrong, images, tmp_path)


def test_a_defect_in_a_layer_whose_scale_a_run_finds_is_found(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "x_s", "x_z"]),
        node("ConvInteger", ["q", "w", "x_z"], ["c"], "conv"),
        node("Cast", ["c"], ["f"], to=onnx.TensorProto.FLOAT),
        node("Mul", ["x_s", "w_s"], ["s"]),
        node("Mul", ["f", "s"], ["p"]),
        node("Add", ["p", "b"], ["y"]),
    ]
    weights = integers(4, 3, 3, 3)
    prepared, lowered = compiled(model(nodes, 3, w=weights, w_s=np.float32(0.01), b=random_array(1, 4, 1, 1)))
    images = random_array(1, 3, 64, 64)
    assert check(prepared, lowered, images, tmp_path).layer_errors == {"conv": 0.0}
    ((_, error),) = _errors_alone(prepared, lowered, source_of(prepared, tmp_path), Measuring(1, tmp_path))
    assert error == 0.0
    with pytest.raises(VerificationError, match="layer 'conv' has other values than the original"):
        check(prepared, damaged(lowered, "conv/bias", 1.1), images, tmp_path)


def test_a_defect_is_found_where_results_are_nearly_zero(tmp_path: Path) -> None:
    """The filter's mean is not zero any more: what was noise is now a thousandth of what cancels."""
    prepared, lowered = compiled(NEARLY_ZERO["filters of mean zero"])
    page = np.full((1, 3, 64, 64), GREY)
    check(prepared, lowered, page, tmp_path)
    wrong = damaged(lowered, "w", 1.0)
    constant = next(each for each in wrong.model.graph.initializer if each.name == "w")
    constant.CopyFrom(tensor("w", numpy_helper.to_array(constant) + np.float32(1e-3)))
    with pytest.raises(VerificationError, match="as rounding can be"):
        check(prepared, wrong, page, tmp_path)


def test_a_defect_in_a_pool_is_found(tmp_path: Path) -> None:
    prepared, lowered = compiled(chain())
    images = random_array(2, 4, 12, 13)
    check(prepared, lowered, images, tmp_path)
    pool = next(each for each in lowered.model.graph.node if each.op_type == "MaxPool")
    pool.op_type = "AveragePool"
    with pytest.raises(VerificationError, match=r"the pool .* as rounding can be"):
        check(prepared, lowered, images, tmp_path)


def test_layers_that_may_err_are_not_judged(tmp_path: Path) -> None:
    prepared = find_layers(two_layers())
    options = CompileOptions(family="sign", num_hashes=2, force=True)
    decisions = choose_parameters(prepared.layers, options, None, Fitted(), {})
    result = check(prepared, carry_out(prepared, decisions, options), random_array(2, 3, 64, 64), tmp_path)
    assert result.rel_error is not None and result.rel_error > 0.01


def test_layers_with_fitted_weights_are_not_judged(tmp_path: Path) -> None:
    """A configuration may bring weights for a lossless family, too: the difference is what was asked for."""
    prepared = find_layers(two_layers())
    decisions = choose_parameters(prepared.layers, EXACT, None, Fitted(), {})
    weights = LayerWeights(np.ones((8, 3, 3, 3), np.float32), np.ones(8, np.float32))
    first = next(each for each in decisions if each.layer.name == "first")
    assert first.plan is not None
    fitted = [replace(first, plan=replace(first.plan, weights=weights)) if e is first else e for e in decisions]
    result = check(prepared, carry_out(prepared, fitted, EXACT), random_array(2, 3, 64, 64), tmp_path)
    assert result.rel_error is not None and result.rel_error > 0.01


def test_sums_that_overflow_are_not_judged(tmp_path: Path) -> None:
    """What is infinite in one order of summation is finite in another: the magnitudes are more than float32 holds."""
    prepared, lowered = compiled(two_layers())
    large = np.tile(np.array([3e38, -3e38], np.float32).reshape(2, 1, 1, 1), (1, 3, 64, 64))
    check(prepared, damaged(lowered, "v", 1.01), large, tmp_path)
