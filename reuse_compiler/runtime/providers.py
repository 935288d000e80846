"""The execution provider that models run on: the CPU's, or CUDA's with the operators' CUDA kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reuse_compiler.errors import LibraryError
from reuse_compiler.runtime import cuda_libraries
from reuse_compiler.runtime.engine import import_onnxruntime
from reuse_compiler.runtime.library import has_cuda

if TYPE_CHECKING:
    import onnxruntime

ProviderName = Literal["cpu", "cuda"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True)
class Provider:
    """A choice of provider, with the settings of CUDA's."""

    name: ProviderName = "cpu"
    tf32: bool = True
    """Whether float32 products may be rounded to TF32, as onnxruntime's own default is."""
    cuda_graph: bool = False
    """Whether runs are captured in a CUDA graph: only with inputs and outputs bound to the device."""

    @property
    def device(self) -> str:
        """What onnxruntime calls the memory that tensors are bound in."""
        return self.name

    def for_onnxruntime(self) -> list[Any]:
        """Returns the list that an InferenceSession takes; raises LibraryError where CUDA cannot be had."""
        if self.name == "cpu":
            return [CPU]
        _require_cuda()
        options = {
            "use_tf32": str(int(self.tf32)),
            "enable_cuda_graph": str(int(self.cuda_graph)),
            "cudnn_conv_algo_search": "EXHAUSTIVE",
        }
        return [(CUDA, options), CPU]

    def check(self, session: onnxruntime.InferenceSession) -> None:
        """Raises LibraryError if onnxruntime silently made the session without the provider."""
        if self.name == "cuda" and CUDA not in session.get_providers():
            raise cuda_error()


_current: ContextVar[Provider] = ContextVar("provider", default=Provider())  # noqa: B039 (it is frozen)


def current_provider() -> Provider:
    """Returns the provider of sessions that are opened without naming one."""
    return _current.get()


@contextmanager
def running_on(provider: Provider) -> Iterator[None]:
    """Makes `provider` that of all sessions that this thread, and no other one, opens meanwhile."""
    token = _current.set(provider)
    try:
        yield
    finally:
        _current.reset(token)


def names(providers: Sequence[Any]) -> list[str]:
    """Returns the names in a list of providers as an InferenceSession takes it: each alone or with its options."""
    return [str(entry if isinstance(entry, str) else entry[0]) for entry in providers]


def start_failure(raised: Exception | None = None) -> str:
    """Returns why onnxruntime could not start its CUDA provider and what helps; `raised` is its error, if any."""
    runtime = import_onnxruntime()
    if CUDA not in runtime.get_available_providers():
        return (
            "this onnxruntime has no CUDA provider: install reuse-compiler with extra [gpu] in place of [cpu] "
            f"(`pip install 'onnxruntime-gpu'`, here is {runtime.__version__})."
        )
    if raised is not None:
        text = " ".join(str(raised).split())
        cause = text[max(text.find("CUDA failure"), 0) :].rstrip(" ;.")  # what is before it are C++ functions' names
    else:
        cause = cuda_libraries.provider_refusal(runtime) or "it has printed or logged why"
    advice = cuda_libraries.explain(cuda_libraries.load_for(runtime))
    return f"onnxruntime could not start its CUDA provider: {cause}. {advice}".rstrip()


def cuda_error(raised: Exception | None = None) -> LibraryError:
    """Returns the error to raise where a model must run on CUDA and cannot; see `start_failure`."""
    return LibraryError(f"{start_failure(raised)} Or run it on the CPU (--provider cpu).")


def _require_cuda() -> None:
    runtime = import_onnxruntime()
    if CUDA not in runtime.get_available_providers():
        raise cuda_error()
    if not has_cuda():
        raise LibraryError(
            "the operator library was built without CUDA kernels: install it where nvcc is found, or with extra "
            "[cuda] and `-C cmake.define.REUSE_CUDA=ON`"
        )
    cuda_libraries.load_for(runtime)
