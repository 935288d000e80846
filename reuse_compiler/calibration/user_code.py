"""Functions that the user wrote, found by `module:function` or `file.py[:function]`: readers of data, metrics."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from reuse_compiler.errors import ConfigError

USER_ERRORS = (Exception, SystemExit)
"""What user code may raise to no good: a call to sys.exit() in it must not end a command as if all were done."""

_SEARCHES = threading.RLock()


def load_function(name: str, default: str | None = None) -> Callable[..., Any]:
    """Returns the function `name`; `default` is called where no function is named.

    Modules are also found in the current folder, and beside a file, as when Python runs a script. Raises ConfigError if
    there is no such module or function, or if importing it raises.
    """
    module_name, function_name = split_name(name)
    function_name = function_name or default
    if not module_name or not function_name:
        raise ConfigError(f"'{name}' names no function: write module:function or file.py:function")
    module = _import_file(Path(module_name)) if module_name.endswith(".py") else _import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ConfigError(f"{module_name} has no function '{function_name}'; it has {functions}")
    result: Callable[..., Any] = function
    return result


def split_name(name: str) -> tuple[str, str | None]:
    """Splits `module:function`; without a function the second part is None."""
    module, colon, function = name.rpartition(":")
    return (module, function) if colon else (name, None)


def function_file(name: str) -> Path:
    """Returns the file that `load_function` reads; of a module, where it lies if it is one of the current folder."""
    module, _ = split_name(name)
    return Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")


def describe_exception(error: BaseException) -> str:
    """Returns a user's exception in one line: its type, its message and the line of code that raised it."""
    text = " ".join(str(error).split())
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"


def _import_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ConfigError(f"there is no file {file}")
    # By its place, too: another thread may be importing a file of the same name.
    name = f"reuse_user_{file.stem}_{zlib.crc32(os.fsencode(file.resolve())):08x}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look themselves up there
    with _search(file.resolve().parent):
        _run_import(lambda: spec.loader.exec_module(module) if spec.loader else None, str(file))
    return module


def _import_module(name: str) -> ModuleType:
    with _search(Path.cwd()):
        module: ModuleType = _run_import(lambda: importlib.import_module(name), name)
    return module


def _run_import(run: Callable[[], Any], name: str) -> Any:
    try:
        return run()
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"there is no Python module '{name}'; a file is named with its .py") from error
        raise ConfigError(f"importing {name} raises {describe_exception(error)}") from error
    except USER_ERRORS as error:
        raise ConfigError(f"importing {name} raises {describe_exception(error)}") from error


@contextmanager
def _search(folder: Path) -> Iterator[None]:
    """Lets imports find modules of a folder first, those of one thread at a time: Python has one path for all."""
    with _SEARCHES:
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
