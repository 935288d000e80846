"""Errors that a user can act on: each message says what is wrong and what to do about it.

Of a command, a ConfigError ends in exit code 2, as wrong flags do: what was asked for contradicts itself, the model or
the configuration, whatever else there is on the machine. All others end in 1: what was asked for makes sense, but a
file, a package or the machine is not as it must be.
"""


class ReuseError(Exception):
    """Base of every error that reuse-compiler raises on purpose; the command line prints it without a traceback."""


class ModelError(ReuseError):
    """The model cannot be read, is malformed, or lacks its external data."""


class ConfigError(ReuseError):
    """A setting or a configuration file is wrong, or two of them contradict each other."""


class OutputError(ReuseError):
    """The result cannot be written where it was asked for, as that place is now."""


class VerificationError(ReuseError):
    """The compiled model does not run, or does not compute what it must."""


class LibraryError(ReuseError):
    """The operator library is missing or does not fit the installed onnxruntime."""


class PassError(ReuseError):
    """A compiler pass broke what it promises: a bug of reuse-compiler or a model that is not valid ONNX."""


class DataError(ReuseError):
    """Sample data cannot be read, or does not fit the inputs of the model."""
