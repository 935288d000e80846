"""Sessions on compiled models: made the easy way, by hand, several from the same options."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import reuse_compiler
from reuse_compiler.errors import LibraryError, ReuseError
from reuse_compiler.runtime.sessions import LIBRARY_ENTRY, TAG_ENTRY

CPU = ["CPUExecutionProvider"]
Compiled = Callable[..., Path]


def test_runs_files_and_bytes_on_the_cpu_by_default(compiled: Compiled, images: np.ndarray) -> None:
    path = compiled(family="exact")
    results = [
        reuse_compiler.session(model).run(None, {"x": images})[0] for model in (path, str(path), path.read_bytes())
    ]
    assert results[0].shape == (6, 10)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
    assert reuse_compiler.session(path).get_providers() == CPU


def test_agrees_with_plain_onnxruntime_on_both_models(
    network: onnx.ModelProto, compiled: Compiled, images: np.ndarray
) -> None:
    path = compiled(family="exact")
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(reuse_compiler.library_path())
    by_hand = onnxruntime.InferenceSession(path, options, providers=CPU).run(None, {"x": images})[0]
    original = onnxruntime.InferenceSession(network.SerializeToString(), providers=CPU).run(None, {"x": images})[0]
    ours = reuse_compiler.session(path, providers=CPU).run(None, {"x": images})[0]
    assert np.array_equal(ours, by_hand)
    np.testing.assert_allclose(ours, original, rtol=1e-3, atol=1e-4)


def test_options_are_honoured_and_only_the_promised_is_added(compiled: Compiled) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry(TAG_ENTRY, "mine")
    session = reuse_compiler.session(compiled(), sess_options=options)
    assert session.get_session_options().intra_op_num_threads == 2
    assert options.get_session_config_entry(TAG_ENTRY) == "mine"
    assert options.get_session_config_entry(LIBRARY_ENTRY) == reuse_compiler.library_path()


def test_several_sessions_from_the_same_options(compiled: Compiled, images: np.ndarray) -> None:
    options = onnxruntime.SessionOptions()
    first, second = (reuse_compiler.session(compiled(), sess_options=options) for _ in range(2))
    assert np.array_equal(first.run(None, {"x": images})[0], second.run(None, {"x": images})[0])


def test_options_in_which_the_library_is_registered_by_hand(compiled: Compiled) -> None:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(reuse_compiler.library_path())
    with pytest.raises(LibraryError, match="registered in these session options already"):
        reuse_compiler.session(compiled(), sess_options=options)


def test_what_is_wrong_with_the_model_is_onnxruntimes_to_say(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"missing\.onnx") as caught:
        reuse_compiler.session(tmp_path / "missing.onnx")
    assert not isinstance(caught.value, ReuseError)
