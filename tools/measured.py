"""What all that is measured for docs/results says of where it was measured."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel

from reuse_compiler.environment import processor, versions


class Measured(BaseModel):
    """Results, and where they come from."""

    processor: str
    versions: dict[str, str]

    @classmethod
    def here(cls, **results: Any) -> Self:
        """Returns these results of this machine."""
        return cls(processor=processor(), versions=versions(), **results)
