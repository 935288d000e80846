"""Sessions to be timed, all opened alike, and runs of them that neither allocate nor copy tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.errors import ReuseError, VerificationError
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.runtime import current_provider, import_onnxruntime, register_others, session
from reuse_compiler.runtime.sessions import STAGES_ENTRY
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.runnable import runnable

if TYPE_CHECKING:
    import onnxruntime


ORIGINAL, COMPILED = "the original model", "the compiled model"
"""What messages call them."""


class RunError(VerificationError):
    """A model does not load or run in onnxruntime on the given inputs."""


class LoadError(RunError):
    """A model does not load, whatever the inputs."""


UNKNOWN_OPERATOR = re.compile(r"(?P<domain>[\w.-]+):\w+\(-?\d+\) is not a registered function/op")
"""What onnxruntime says of a model with an operator of a library that was not registered."""


def open_session(
    model: onnx.ModelProto | bytes | Path,
    threads: int,
    label: str,
    *,
    folder: Path | None = None,
    profile: Path | None = None,
    plain: bool = False,
    keeps_memory: bool = True,
    stages_timed: bool = False,
) -> onnxruntime.InferenceSession:
    """Opens a model for `threads` threads; raises LoadError, naming it `label`, if onnxruntime cannot load it.

    `folder` may hold a temporary copy of a model with external data. `profile` is the prefix of a file for
    onnxruntime's profiler; a `plain` session knows no operators of ours. A session that `keeps_memory` holds all that
    its runs have ever needed, which makes the next one faster. With `stages_timed` CUDA kernels time their stages, too:
    each is waited for then.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.enable_cpu_mem_arena = keeps_memory
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; what is odd is not the user's doing
    # Threads of one session must not spin on while another session's run is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if stages_timed:
        options.add_session_config_entry(STAGES_ENTRY, "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    held = runnable(model, folder or Path(gettempdir())) if isinstance(model, onnx.ModelProto) else nullcontext(model)
    with held as source:
        try:
            if plain:
                register_others(options)
                provider = current_provider()
                opened = runtime.InferenceSession(source, options, providers=provider.for_onnxruntime())
                provider.check(opened)
                return opened
            return session(source, sess_options=options)
        except ReuseError:
            raise
        except Exception as error:
            raise LoadError(f"onnxruntime cannot load {label}: {_with_advice(one_line(error))}") from error


@dataclass(frozen=True)
class Measuring:
    """How models are run to be measured."""

    threads: int
    folder: Path
    """Where temporary copies of models with external data may lie."""
    progress: ProgressCallback = silent

    def open(self, model: onnx.ModelProto, label: str) -> onnxruntime.InferenceSession:
        """Opens a model; raises LoadError, naming it `label`, if onnxruntime cannot load it."""
        return open_session(model, self.threads, label, folder=self.folder)


def run_session(
    session: onnxruntime.InferenceSession, names: list[str] | None, feed: Feed, label: str
) -> list[NDArray[Any]]:
    """Runs a model once for the outputs `names` (None: all); a RunError names it `label`."""
    try:
        outputs: list[NDArray[Any]] = session.run(names, feed)
    except Exception as error:
        raise RunError(f"{label} does not run: {one_line(error)}") from error
    return outputs


def runner(
    session: onnxruntime.InferenceSession, names: list[str] | None, label: str
) -> Callable[[Feed], list[NDArray[Any]]]:
    """Returns what runs a model on a feed, as `run_session` does."""
    return lambda feed: run_session(session, names, feed, label)


def one_line(error: Exception) -> str:
    """The message of onnxruntime without its prefix and further lines."""
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text


def _with_advice(message: str) -> str:
    """Returns why a model does not load, and what helps if it has an operator of a library that was not named."""
    unknown = UNKNOWN_OPERATOR.search(message)
    if unknown is None:
        return message
    return f"{message}; name the library that has the operators of {unknown['domain']} with --custom-op-library"


BYTES = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
"""The result of a quantised layer may be of another type than its input."""


class BoundRun:
    """Runs of a session with one input and one output, both in memory of the provider's device that stays the same.

    A layer inside a network gets and leaves its tensors this way: no copy to or from Python is timed.
    """

    def __init__(
        self,
        opened: onnxruntime.InferenceSession,
        x: NDArray[Any],
        output_shape: Sequence[int],
        beside: BoundRun | None = None,
    ) -> None:
        """A run `beside` another one reads and overwrites its very memory, which must be of the same shapes."""
        runtime, device = import_onnxruntime(), current_provider().device
        self._session = opened
        if beside is None:
            self._input = runtime.OrtValue.ortvalue_from_numpy(x, device, 0)
            kind = BYTES.get(opened.get_outputs()[0].type, x.dtype.type)
            self._output = runtime.OrtValue.ortvalue_from_shape_and_type(list(output_shape), kind, device, 0)
        else:
            self._input, self._output = beside._input, beside._output
        self._binding = opened.io_binding()
        self._binding.bind_ortvalue_input(opened.get_inputs()[0].name, self._input)
        self._binding.bind_ortvalue_output(opened.get_outputs()[0].name, self._output)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def give(self, x: NDArray[Any]) -> None:
        """Writes another input to the memory that is read, also by runs beside this one."""
        self._input.update_inplace(x)

    @property
    def session(self) -> onnxruntime.InferenceSession:
        return self._session

    @property
    def output(self) -> NDArray[Any]:
        """A copy of the last result in this memory."""
        return np.array(self._output.numpy())
