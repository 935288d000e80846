"""Sessions to be timed, all opened alike, and runs of them that neither allocate nor copy tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.errors import ReuseError
from reuse_compiler.runtime import current_provider, import_onnxruntime, session
from reuse_compiler.verification.verify import RunError, one_line

if TYPE_CHECKING:
    import onnxruntime


def open_session(
    model: onnx.ModelProto | bytes | Path, threads: int, label: str, *, profile: Path | None = None, plain: bool = False
) -> onnxruntime.InferenceSession:
    """Opens a model for `threads` threads; raises RunError, naming it `label`, if onnxruntime cannot load it.

    `profile` is the prefix of a file for onnxruntime's profiler; a `plain` session knows no operators of ours.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised
    # Threads of one session must not spin on while another session's run is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    try:
        if plain:
            provider = current_provider()
            opened = runtime.InferenceSession(source, options, providers=provider.for_onnxruntime())
            provider.check(opened)
            return opened
        return session(source, sess_options=options)
    except ReuseError:
        raise
    except Exception as error:
        raise RunError(f"onnxruntime cannot load {label}: {one_line(error)}") from error


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
            self._output = runtime.OrtValue.ortvalue_from_shape_and_type(list(output_shape), x.dtype.type, device, 0)
        else:
            self._input, self._output = beside._input, beside._output
        self._binding = opened.io_binding()
        self._binding.bind_ortvalue_input(opened.get_inputs()[0].name, self._input)
        self._binding.bind_ortvalue_output(opened.get_outputs()[0].name, self._output)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    @property
    def session(self) -> onnxruntime.InferenceSession:
        return self._session

    @property
    def output(self) -> NDArray[Any]:
        """A copy of the last result in this memory."""
        return np.array(self._output.numpy())
