"""The version of the package and of its operator library: pyproject.toml and CMake read it here."""

VERSION = "0.2.0.dev0"
