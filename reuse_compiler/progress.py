"""How work that takes long tells how far it is, without knowing whether anybody watches."""

from collections.abc import Callable

ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done and how many there are (0: unknown)."""


def silent(what: str, done: int, total: int) -> None:
    """Does nothing: the callback to pass where nobody watches."""
