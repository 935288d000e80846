"""Entry points of the programs: signals are heeded before anything is imported that takes long.

Nothing but the standard library may be imported at the top of this file.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt it is no Exception, and unlike SystemExit nobody else raises it."""


def compile_model() -> None:
    """The program `reuse-compile`."""
    _start("reuse_compiler.cli.compile")


def calibrate() -> None:
    """The program `reuse-calibrate`."""
    _start("reuse_compiler.cli.calibrate")


def bench() -> None:
    """The program `reuse-bench`."""
    _start("reuse_compiler.cli.bench")


def _start(module: str) -> None:
    """Imports a command and runs it."""
    _heed(_leave, _leave)  # there is nothing to tidy up yet
    try:
        main = importlib.import_module(module).main
    except Exception as error:  # of a package that is missing or broken: nothing else can be relied on here
        sys.exit(f"error: the program cannot be loaded ({type(error).__name__}: {error}); install it again with pip")
    main()


def end_on_signals() -> None:
    """Makes SIGINT and SIGTERM end the program in the orderly way, so that temporary files go; for `main` only."""
    _heed(signal.default_int_handler, _terminate)


def end_in_peace() -> None:
    """Has a second SIGINT disregarded while Python ends, which takes a while, and removes what is temporary."""
    _heed(signal.SIG_IGN, signal.SIG_DFL)


def _heed(on_interrupt: Handler, on_termination: Handler) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a job that a shell runs in the background
        signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, on_termination)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
