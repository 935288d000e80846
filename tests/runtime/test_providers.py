"""Which provider sessions get, and what is said where CUDA cannot be had."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import onnx
import onnxruntime
import pytest

import reuse_compiler
from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime import Provider, cuda_libraries, current_provider, import_onnxruntime, providers, running_on
from reuse_compiler.runtime.cuda_libraries import Library
from tests.cuda.running import cuda_alone, without_fallback

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
without_cuda = pytest.mark.skipif(CUDA in import_onnxruntime().get_available_providers(), reason="there is CUDA")
silent = pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider' is not in available")


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


@without_cuda
def test_an_onnxruntime_without_cuda_is_told(network: onnx.ModelProto) -> None:
    with running_on(Provider("cuda")), pytest.raises(LibraryError, match=r"no CUDA provider: install .*\[gpu\]"):
        reuse_compiler.session(network.SerializeToString())


@pytest.fixture
def cuda_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries say that they have CUDA; CUDA's own are as they are on this machine."""
    monkeypatch.setattr(import_onnxruntime(), "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(providers, "has_cuda", lambda: True)


@pytest.mark.usefixtures("cuda_is_built")
def test_settings_reach_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    (name, options), behind = Provider("cuda", tf32=False, cuda_graph=True).for_onnxruntime()
    assert (name, behind) == (CUDA, CPU)
    assert options["use_tf32"] == "0" and options["enable_cuda_graph"] == "1"
    monkeypatch.setattr(providers, "has_cuda", lambda: False)
    with pytest.raises(LibraryError, match="built without CUDA kernels"):
        Provider("cuda").for_onnxruntime()


def refusal(model: onnx.ModelProto, chosen: list[Any], way_back: bool = False) -> str:
    """Returns what onnxruntime says of options that forbid the CPU, with these providers; "" if it takes them."""
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), without_fallback(), providers=chosen, enable_fallback=int(way_back)
        )
    except Exception as error:
        return str(error)
    return ""


@silent
@pytest.mark.usefixtures("cuda_is_built")
def test_tests_on_cuda_name_no_cpu_beside_options_that_forbid_it(network: onnx.ModelProto) -> None:
    conflict = "Conflicting session configuration: explicitly added the CPU EP"
    production, tested = Provider("cuda", tf32=True).for_onnxruntime(), cuda_alone(tf32=True)
    assert providers.names(production) == [CUDA, CPU] and tested == production[:1]
    assert conflict in refusal(network, [CPU])
    assert conflict in refusal(network, production, way_back=True)  # CUDA's own failure is not what is looked for
    assert conflict not in refusal(network, tested)


@silent
@without_cuda
def test_named_by_the_user_and_not_there(network: onnx.ModelProto, caplog: pytest.LogCaptureFixture) -> None:
    model = network.SerializeToString()
    with caplog.at_level(logging.WARNING):
        assert reuse_compiler.session(model, [(CUDA, {}), CPU]).get_providers() == [CPU]
    assert "The model runs on the CPU: this onnxruntime has no CUDA provider" in caplog.text
    for options in (None, without_fallback()):
        with pytest.raises(LibraryError, match="no CUDA provider: install"):
            reuse_compiler.session(model, [CUDA], options)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        reuse_compiler.session(model, [CPU])
    assert not caplog.text


@pytest.fixture
def broken_cuda(cuda_is_built: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """An onnxruntime whose CUDA provider the loader refuses with these words, and that needs what is nowhere."""
    words = "libreuse_no.so.1: cannot open shared object file"
    library = Library("libreuse_no.so.1", requirement="nvidia-no==1.*")
    monkeypatch.setattr(cuda_libraries, "provider_refusal", lambda _: words)
    monkeypatch.setattr(cuda_libraries, "libraries", lambda _: [library])
    return words


@silent
@without_cuda
def test_the_loaders_words_and_the_remedy_reach_the_user(
    network: onnx.ModelProto, broken_cuda: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = network.SerializeToString()
    expected = (
        f"onnxruntime could not start its CUDA provider: {broken_cuda}. "
        "Not found: libreuse_no.so.1. Try `pip install 'nvidia-no==1.*'`, or name their folders in LD_LIBRARY_PATH."
    )
    for options in (None, without_fallback()):
        with pytest.raises(LibraryError) as caught:
            reuse_compiler.session(model, [CUDA], options)
        assert str(caught.value).startswith(expected)
    with running_on(Provider("cuda")), pytest.raises(LibraryError) as caught:
        reuse_compiler.session(model)
    assert str(caught.value).startswith(expected)
    with pytest.raises(LibraryError) as caught:
        Provider("cuda").check(reuse_compiler.session(model, [CPU]))
    assert str(caught.value).startswith(expected)
    with caplog.at_level(logging.WARNING):
        assert reuse_compiler.session(model, [CUDA, CPU]).get_providers() == [CPU]
    assert f"The model runs on the CPU: {expected}" in caplog.text


@pytest.mark.usefixtures("broken_cuda")
def test_what_the_provider_raises_is_told(network: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the driver is too old: onnxruntime would print it and go on with the CPU."""

    def raise_it(*_: Any, enable_fallback: int = 1, **__: Any) -> None:
        assert not enable_fallback
        raise RuntimeError("/cuda_call.cc:122 CudaCall(int) CUDA failure 35: CUDA driver is insufficient ; \n\n")

    monkeypatch.setattr(import_onnxruntime(), "InferenceSession", raise_it)
    with pytest.raises(LibraryError, match=r"its CUDA provider: CUDA failure 35: .* insufficient\. Not found"):
        reuse_compiler.session(network.SerializeToString(), [CUDA])


def test_the_provider_is_the_thread_s_own() -> None:
    inside, seen = threading.Event(), threading.Event()

    def other_thread() -> list[Provider]:
        before = current_provider()
        with running_on(Provider(tf32=False)):
            inside.set()
            assert seen.wait(60)
            return [before, current_provider()]

    with ThreadPoolExecutor(1) as pool, running_on(Provider("cuda")):
        other = pool.submit(other_thread)
        assert inside.wait(60)
        assert current_provider() == Provider("cuda")
        seen.set()
        assert other.result() == [Provider(), Provider(tf32=False)]
    assert current_provider() == Provider()
