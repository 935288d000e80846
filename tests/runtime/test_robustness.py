"""Compiled models at run time under unusual input and load: a right answer or a clear error each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import reuse_compiler

Compiled = Callable[..., Path]
FORMS = [
    {"family": "sign", "num_hashes": 8, "lowering": "fused"},
    {"family": "sign", "num_hashes": 8, "lowering": "staged"},
    {"family": "sign", "num_hashes": 2, "lowering": "fused"},
    {"family": "exact", "lowering": "fused"},
    {"family": "exact", "lowering": "staged", "scope": "image"},
    {"family": "sign", "num_hashes": 8, "layout": "patch", "sub_vector_length": 5},
]
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are expected here
    return reuse_compiler.session(path, sess_options=options)


def dense(network: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])


@each_form
def test_results_do_not_depend_on_the_number_of_threads(
    compiled: Compiled, images: np.ndarray, form: dict[str, object]
) -> None:
    results = [session(compiled(**form), threads).run(None, {"x": images})[0] for threads in (1, 2, 3, 8)]
    assert np.isfinite(results[0]).all() and np.abs(results[0]).max() > 0
    for result in results[1:]:
        assert np.array_equal(result, results[0])


@each_form
def test_two_sessions_and_eight_threads_at_once(
    compiled: Compiled, images: np.ndarray, form: dict[str, object]
) -> None:
    """Runs of different batches, also of different size, overlap in both sessions; each must give its own result."""
    path = compiled(**form)
    feeds = [images[: 1 + i % 6] * np.float32(1 + i) for i in range(8)]
    alone = session(path)
    expected = [alone.run(None, {"x": feed})[0] for feed in feeds]
    sessions = session(path, threads=1), session(path, threads=2)

    def run(job: int) -> bool:
        result = sessions[job // 8 % 2].run(None, {"x": feeds[job % 8]})[0]
        return np.array_equal(result, expected[job % 8])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(96)))
    for one in sessions:
        assert {node.runs for node in reuse_compiler.statistics(one)} == {48}


@each_form
def test_a_repeated_run_gives_the_same_bits(compiled: Compiled, images: np.ndarray, form: dict[str, object]) -> None:
    one = session(compiled(**form))
    first = one.run(None, {"x": images})[0]
    one.run(None, {"x": images[::-1].copy() * 3})
    assert np.array_equal(one.run(None, {"x": images})[0], first)


@each_form
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_undefined_pixel_spoils_what_it_spoils_in_the_original_and_no_more(
    network: onnx.ModelProto, compiled: Compiled, images: np.ndarray, form: dict[str, object], value: float
) -> None:
    """One pixel of image 2: in its own image it does what it does in the original, the other images never see it."""
    poisoned = images.copy()
    poisoned[2, 1, 5, 6] = value
    result = session(compiled(**form)).run(None, {"x": poisoned})[0]
    original = dense(network).run(None, {"x": poisoned})[0]
    others = [0, 1, 3, 4, 5]
    assert np.isfinite(result[others]).all()
    assert not np.isfinite(original[2]).all(), "the test needs an original that the pixel spoils"
    assert np.array_equal(np.isfinite(result[2]), np.isfinite(original[2]))
    if form["family"] == "exact":
        np.testing.assert_allclose(result, original, rtol=1e-3, atol=1e-4)


@each_form
def test_nothing_but_nan(compiled: Compiled, images: np.ndarray, form: dict[str, object]) -> None:
    result = session(compiled(**form)).run(None, {"x": np.full_like(images, np.nan)})[0]
    assert np.isnan(result).all()


@each_form
def test_largest_and_smallest_floats(
    network: onnx.ModelProto, compiled: Compiled, images: np.ndarray, form: dict[str, object]
) -> None:
    """Sums of float32 maxima overflow in the original too; subnormal numbers must not become anything else."""
    one = session(compiled(**form))
    big = one.run(None, {"x": np.full_like(images, np.finfo(np.float32).max)})[0]
    assert big.shape == (6, 10)
    small = np.full_like(images, 1e-42)
    np.testing.assert_allclose(one.run(None, {"x": small})[0], dense(network).run(None, {"x": small})[0], atol=1e-6)


@each_form
def test_an_empty_batch_gives_an_empty_result(compiled: Compiled, images: np.ndarray, form: dict[str, object]) -> None:
    one = session(compiled(**form))
    assert one.run(None, {"x": images[:0]})[0].shape == (0, 10)
    assert one.run(None, {"x": images})[0].shape == (6, 10)


@each_form
def test_batches_of_every_size(
    network: onnx.ModelProto, compiled: Compiled, images: np.ndarray, form: dict[str, object]
) -> None:
    one, original = session(compiled(**form)), dense(network)
    for count in (1, 5, 2, 6):
        result = one.run(None, {"x": images[:count]})[0]
        assert result.shape == (count, 10)
        if form["family"] == "exact":
            expected = original.run(None, {"x": images[:count]})[0]
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        (np.zeros((1, 4, 12, 12), np.float32), "Got invalid dimensions"),
        (np.zeros((1, 3, 12), np.float32), "Invalid rank"),
        (np.zeros((1, 3, 12, 12)), "Unexpected input data type"),
    ],
)
def test_wrong_feeds_are_refused(compiled: Compiled, feed: np.ndarray, message: str) -> None:
    with pytest.raises(Exception, match=message):
        session(compiled()).run(None, {"x": feed})
