"""Sessions of onnxruntime that know the operators and keep their statistics apart from other sessions'."""

from __future__ import annotations

import logging
import os
import uuid
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reuse_compiler.errors import LibraryError
from reuse_compiler.paths import AnyPath
from reuse_compiler.runtime import cuda_libraries
from reuse_compiler.runtime.engine import import_onnxruntime
from reuse_compiler.runtime.library import library_path, load_library
from reuse_compiler.runtime.providers import CPU, CUDA, cuda_error, current_provider, names, start_failure

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

TAG_ENTRY = "ai.reuse.session"
"""Session configuration entry under which the library files a session's statistics."""
REGISTERED_TWICE = "Domain already set"
"""Part of onnxruntime's message about options in which the library was registered by hand and then by `register`."""
LIBRARY_ENTRY = "ai.reuse.library"
"""Session configuration entry that tells which library `register` has put into the options."""

STAGES_ENTRY = "ai.reuse.stages"
"""With "1" in it when the library is registered, CUDA kernels of these sessions time their stages."""
OTHERS_ENTRY = "ai.reuse.other_libraries"
"""The same of others' libraries, which `register_others` has put there, a line each."""
COMPILED = "reuse.layers"
"""Key of metadata that compiled models have; tools that put functions in the place of our operators leave it there."""
_others: ContextVar[tuple[AnyPath, ...]] = ContextVar("other_libraries", default=())


def session(
    path: AnyPath | bytes,
    providers: Sequence[Any] | None = None,
    sess_options: onnxruntime.SessionOptions | None = None,
    custom_op_libraries: Sequence[AnyPath] | None = None,
) -> onnxruntime.InferenceSession:
    """Returns an `onnxruntime.InferenceSession` with the operators of domain `ai.reuse`.

    `path` is a model file or a serialized model. Without `providers` the model runs on the CPU (inside `running_on`, on
    the provider named there). If CUDA is among `providers`, its libraries are loaded first. Where it cannot be started,
    the model runs on the CPU and a warning is logged, provided that `providers` has the CPU, too.
    `custom_op_libraries` are others' libraries with operators that the model needs, too (without, those of
    `with_libraries`).
    `sess_options` is changed: libraries are registered in it and it gets a configuration entry that names its
    statistics, each once only, so sessions made from one `sess_options` share their statistics.
    Raises LibraryError if the library or onnxruntime is missing or unfit, or if CUDA cannot be started and is the only
    provider; errors in the model are onnxruntime's own.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions() if sess_options is None else sess_options
    register(options)
    register_others(options, custom_op_libraries)
    model = path if isinstance(path, bytes) else os.fspath(path)
    try:
        chosen = list(providers or current_provider().for_onnxruntime())
        if CUDA in names(chosen):
            # `running_on` names one provider: the CPU is in its list for nodes that CUDA does not know.
            made = _session_on_cuda(model, options, chosen, cpu_will_do=bool(providers) and CPU in names(chosen))
        else:
            made = runtime.InferenceSession(model, options, providers=chosen)
    except Exception as error:
        if REGISTERED_TWICE in str(error):
            raise LibraryError(
                "the operator library is registered in these session options already: "
                "make the session with onnxruntime.InferenceSession"
            ) from error
        raise
    _warn_if_nothing_is_reused(made, options)
    return made


def _warn_if_nothing_is_reused(made: onnxruntime.InferenceSession, options: onnxruntime.SessionOptions) -> None:
    """Tells of a compiled model that has none of our operators any more, which computes as right as ever."""
    no_nodes = load_library().reuse_statistics_json(b"no session", None, 0)
    if load_library().reuse_statistics_json(tag_of(options).encode(), None, 0) > no_nodes:
        return
    try:
        compiled = COMPILED in made.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError:  # of a name anywhere in the metadata
        return
    if compiled:
        logger.warning(
            "the model was compiled, but none of its operators is left, so that nothing is reused: another tool has "
            "put what they stand for in their place. Use that tool before reuse-compile (docs/neighbours.md)"
        )


def _session_on_cuda(
    model: str | bytes, options: onnxruntime.SessionOptions, providers: list[Any], cpu_will_do: bool
) -> onnxruntime.InferenceSession:
    """Makes a session on CUDA; where CUDA cannot be started, one on the CPU with a warning if that `will_do`."""
    runtime = import_onnxruntime()
    problems = cuda_libraries.load_for(runtime)
    if problems:
        logger.info("libraries of CUDA: %s", cuda_libraries.explain(problems))
    # onnxruntime has its own way back to the CPU, on which it prints what was wrong and forgets it.
    way_back = cpu_will_do or bool({*names(providers)} - {CPU, CUDA})
    try:
        made = runtime.InferenceSession(model, options, providers=providers, enable_fallback=int(way_back))
    except Exception as error:
        if way_back:
            raise
        if isinstance(error, RuntimeError):  # of the provider: for all else onnxruntime has types of its own
            raise cuda_error(error) from error
        if cuda_libraries.provider_refusal(runtime) is not None:
            raise cuda_error() from error
        raise
    if CUDA not in made.get_providers():
        if not cpu_will_do:
            raise cuda_error()
        logger.warning("The model runs on the CPU: %s", start_failure())
    return made


def register(options: onnxruntime.SessionOptions) -> None:
    """Adds the operator library, and a statistics tag if it has none, to `options`; does nothing the second time."""
    if _entry(options, LIBRARY_ENTRY):
        return
    path, forget = library_path(), None
    if not tag_of(options):
        # The library reads the entry while it is being registered, so it must be there before.
        options.add_session_config_entry(TAG_ENTRY, uuid.uuid4().hex)
        forget = load_library().reuse_statistics_forget
    try:
        options.register_custom_ops_library(path)
    except Exception as error:
        raise LibraryError(f"onnxruntime refuses the operator library {path}: {error}") from error
    options.add_session_config_entry(LIBRARY_ENTRY, path)
    if forget is not None:
        # Sessions keep their options alive, so when these go nobody can ask for the statistics any more.
        weakref.finalize(options, forget, tag_of(options).encode()).atexit = False
    logger.debug("registered %s in session options", path)


@contextmanager
def with_libraries(libraries: Sequence[AnyPath]) -> Iterator[None]:
    """Registers others' libraries in all sessions that this thread, and no other one, opens meanwhile."""
    token = _others.set(tuple(libraries))
    try:
        yield
    finally:
        _others.reset(token)


def register_others(options: onnxruntime.SessionOptions, libraries: Sequence[AnyPath] | None = None) -> None:
    """Adds others' libraries (None: those of `with_libraries`) to `options`, each once; raises LibraryError."""
    known = _entry(options, OTHERS_ENTRY).splitlines()
    for library in _others.get() if libraries is None else libraries:
        path = Path(library).resolve()
        if str(path) in known:
            continue
        if not path.is_file():
            raise LibraryError(f"there is no library of operators {library}: correct --custom-op-library")
        try:
            options.register_custom_ops_library(str(path))
        except Exception as error:
            raise LibraryError(f"onnxruntime refuses the library of operators {path}: {error}") from error
        known.append(str(path))
        options.add_session_config_entry(OTHERS_ENTRY, "\n".join(known))


def tag_of(options: onnxruntime.SessionOptions) -> str:
    """Returns the statistics tag in `options`, or "" if there is none."""
    return _entry(options, TAG_ENTRY)


def _entry(options: onnxruntime.SessionOptions, key: str) -> str:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:  # onnxruntime's answer for an entry that was never set
        return ""
