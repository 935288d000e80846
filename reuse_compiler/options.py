"""What the user of the compiler can choose; the command line and the Python API both fill this in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reuse_compiler.reuse.config import FamilyName, Lowering, Metric, Scope, TableType
from reuse_compiler.reuse.geometry import DataOrder, Layout


def _check_regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"'{value}' is not a regular expression: {error}") from error
    return value


RegularExpression = Annotated[str, AfterValidator(_check_regular_expression)]
"""A pattern that is searched for in layer names."""


DataOrderChoice = DataOrder | Literal["auto"]
"""Order of data between reuse convolutions where nothing else sees them: nhwc (pixel-major), nchw, or auto: nhwc where
pooling lies between, which is where it was measured to pay (docs/performance.md)."""


class CompileOptions(BaseModel):
    """Choices for one compilation; None means that the compiler chooses (docs of `reuse-compile --help`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path | None = None
    layers: RegularExpression | None = None
    """Regular expression searched in layer names: only these Convs are considered."""
    exclude: RegularExpression | None = None
    """Regular expression searched in layer names: these Convs stay dense."""
    family: FamilyName | None = None
    sub_vector_length: int | None = Field(default=None, ge=1)
    num_hashes: int | None = Field(default=None, ge=1, le=64)
    scope: Scope | None = None
    layout: Layout | Literal["auto"] = "auto"
    lowering: Lowering = "fused"
    capacity: float | None = Field(default=None, gt=0.0, le=1.0)
    metric: Metric | None = None
    table: TableType | None = None
    data_order: DataOrderChoice = "auto"
    force: bool = False
    """Rewrite also where the cost model predicts a slower layer."""
    seed: int = Field(default=0, ge=0)
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Input shapes by name, for dynamic dimensions: used to choose parameters and to verify."""
