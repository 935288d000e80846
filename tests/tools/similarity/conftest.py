"""The model that the command is tried on is that of the package's commands."""

from tests.cli.conftest import model, network, no_columns

__all__ = ["model", "network", "no_columns"]
