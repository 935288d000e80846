"""Which provider sessions get, and what is said where CUDA cannot be had."""

import onnx
import pytest

import reuse_compiler
from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime import Provider, current_provider, import_onnxruntime, providers, running_on


def test_sessions_are_on_the_cpu_unless_told() -> None:
    assert current_provider() == Provider("cpu")
    assert Provider("cpu").for_onnxruntime() == ["CPUExecutionProvider"]


def test_a_choice_ends_with_its_block() -> None:
    chosen = Provider("cpu", tf32=False)
    with running_on(chosen):
        assert current_provider() is chosen
    with pytest.raises(RuntimeError, match="inside"), running_on(chosen):
        raise RuntimeError("inside")
    assert current_provider() == Provider("cpu")


@pytest.mark.skipif("CUDAExecutionProvider" in import_onnxruntime().get_available_providers(), reason="there is CUDA")
def test_an_onnxruntime_without_cuda_is_told(network: onnx.ModelProto) -> None:
    with running_on(Provider("cuda")), pytest.raises(LibraryError, match=r"no CUDA provider: install .*\[gpu\]"):
        reuse_compiler.session(network.SerializeToString())


def test_settings_reach_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_onnxruntime(), "get_available_providers", lambda: [providers.CUDA])
    monkeypatch.setattr(import_onnxruntime(), "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(providers, "has_cuda", lambda: True)
    name, options = Provider("cuda", tf32=False, cuda_graph=True).for_onnxruntime()[0]
    assert name == "CUDAExecutionProvider"
    assert options["use_tf32"] == "0" and options["enable_cuda_graph"] == "1"
    monkeypatch.setattr(providers, "has_cuda", lambda: False)
    with pytest.raises(LibraryError, match="built without CUDA kernels"):
        Provider("cuda").for_onnxruntime()
