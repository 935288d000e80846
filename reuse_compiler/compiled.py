"""Compiling from Python: a model in memory or in a file becomes one in memory, which can be saved or run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import onnx
from pydantic import ValidationError

from reuse_compiler.compiler import compile_model
from reuse_compiler.errors import ConfigError
from reuse_compiler.graph import load_model, save_model
from reuse_compiler.graph.load import model_in_memory
from reuse_compiler.graph.save import refuse_read
from reuse_compiler.graph.tensors import external_data, is_external, tensors_of
from reuse_compiler.options import CompileOptions
from reuse_compiler.paths import AnyPath
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.report import ModelReport
from reuse_compiler.reuse.config import describe_validation_error
from reuse_compiler.runtime import session
from reuse_compiler.verification.runnable import runnable
from reuse_compiler.verification.sources import Samples

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True, eq=False, repr=False)
class CompiledModel:
    """A compiled model, and what was decided and measured."""

    model: onnx.ModelProto
    """The result: any onnxruntime runs it, with or without the operator library (unless `fallback=False`).

    Weights that a file kept outside stay there, and locations in here are absolute: `save` makes a file of it.
    """
    report: ModelReport

    def save(self, path: AnyPath, overwrite: bool = False) -> None:
        """Writes the model, all of it or nothing, with its external data where it has some or exceeds 2 GB.

        Raises OutputError if the file exists and `overwrite` is not set, if it cannot be written, or if it is one that
        holds the model's weights.
        """
        data = (external_data(tensor).file for tensor in tensors_of(self.model) if is_external(tensor))
        refuse_read(Path(path), data)
        save_model(self.model, path, overwrite)

    def session(
        self,
        providers: Sequence[Any] | None = None,
        sess_options: onnxruntime.SessionOptions | None = None,
        custom_op_libraries: Sequence[AnyPath] | None = None,
    ) -> onnxruntime.InferenceSession:
        """Returns a session as `reuse_compiler.session` does; others' libraries are those of the compilation if None.

        A model with external data or over 2 GB is written into the folder for temporary files while the session is
        made (`TMPDIR` names another one); to save that, `save` it and give `reuse_compiler.session` the path.
        """
        if custom_op_libraries is None:
            custom_op_libraries = self.report.options["custom_op_libraries"]
        with runnable(self.model, Path(gettempdir())) as source:
            return session(source, providers, sess_options, custom_op_libraries)

    def __repr__(self) -> str:
        layers = self.report.layers
        rewritten = sum(layer.decision == "reuse" for layer in layers)
        return f"<CompiledModel {self.report.model}: {rewritten} of {len(layers)} convolutions use reuse>"


def compile(
    model: onnx.ModelProto | bytes | AnyPath,
    *,
    verify: bool = True,
    verify_data: Samples | None = None,
    threads: int = 1,
    progress: ProgressCallback = silent,
    **options: Any,
) -> CompiledModel:
    """Compiles a model without writing anything: `reuse_compiler.compile("net.onnx").save("net.reuse.onnx")`.

    `model` is an onnx.ModelProto, which is not changed, a serialized one, or the path of a file; where no layer was
    rewritten, the result is that very model. `options` are the fields of `CompileOptions`, as `family="exact"`,
    `shapes={"images": (8, 3, 640, 640)}` or `force=True`: each is a flag of `reuse-compile`.

    Unless `verify=False`, both models are run on `threads` threads and errors and times are in the report. They are run
    on random inputs, or on `verify_data`, which then also chooses the layers, by measurement:

    * a file or folder, as for `reuse-compile --verify-data`;
    * an array for the only input, or a dict of arrays by input name; their first axis counts samples, which are run in
      batches of the model's size, else of that in `shapes`, else one by one;
    * a list of such arrays or dicts, each of them the inputs of one run, of exactly their shapes.

    Arrays have the inputs' kind of type (floats are converted to the declared width, integers are not made floats).
    A model with external data is copied into the folder for temporary files (`TMPDIR`) while it is run.
    `progress(what, done, total)` is called now and then; `total` is 0 where it is not known.

    Raises a ReuseError whose message says what to do: ConfigError (options), ModelError (the model), DataError
    (`verify_data`), LibraryError (operator library or onnxruntime), VerificationError (the result is wrong).
    """
    try:
        chosen = CompileOptions(**options)
    except ValidationError as error:
        raise ConfigError(describe_validation_error(error)) from error
    progress("reading the model", 0, 0)
    if isinstance(model, onnx.ModelProto | bytes):
        read = model_in_memory(model)
        name = read.graph.name or "model"
    else:
        read, name = load_model(model), os.fspath(model)
    result, report = compile_model(
        read,
        chosen,
        name=name,
        folder=Path(gettempdir()),
        verify=verify,
        verify_data=verify_data if verify else None,
        threads=threads,
        progress=progress,
    )
    return CompiledModel(result, report)
