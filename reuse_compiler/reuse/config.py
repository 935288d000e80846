"""Settings of a reuse layer, and the configuration file (`MODEL.reuse.json`) that holds them per layer.

`reuse-compile --config` reads such files; calibration and training write them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from reuse_compiler.errors import ConfigError
from reuse_compiler.json_files import JsonError, read_json
from reuse_compiler.paths import AnyPath
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.families import FamilyName as FamilyName
from reuse_compiler.reuse.geometry import Blocking, ConvSpec, Layout

Scope = Literal["image", "batch", "session", "static"]
Metric = Literal["euclidean", "angular"]
Lowering = Literal["fused", "staged"]
TableType = Literal["float", "int8"]

DEFAULT_MEMORY = 2**26
STREAM_MEMORY = 2**28
"""The most bytes that an incremental layer may keep: its ids and sums for an image of 1024 x 1024 with 64 channels."""
MOST_STATIC_HASHES = 16
"""Scope static has a centroid for every code, and clusters of bytes have a place for each."""


class LayerSettings(BaseModel):
    """How one Conv is rewritten. L and H are the papers' symbols for `sub_vector_length` and `num_hashes`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    family: FamilyName = "sign"
    layout: Layout
    sub_vector_length: int = Field(alias="L", ge=1, le=2**20)
    num_hashes: int = Field(alias="H", ge=1, le=64)
    scope: Scope = "batch"
    capacity: float = Field(default=1.0, gt=0.0, le=1.0)
    metric: Metric = "euclidean"
    table: TableType = "float"
    """What the products of centroids and weights are kept as; int8 needs the fused operator."""
    memory: int = Field(default=DEFAULT_MEMORY, ge=0, lt=2**63)
    """The most bytes that the clusters kept by scope session may take."""

    @model_validator(mode="after")
    def _fits_family(self) -> LayerSettings:
        if np.float32(self.capacity) <= 0:
            raise ValueError(f"capacity {self.capacity} is 0 in float32: it must be above")
        largest = FAMILIES[self.family].max_hashes
        if self.num_hashes > largest:
            raise ValueError(f"H={self.num_hashes} is too large: family '{self.family}' takes at most {largest}")
        return self

    @model_validator(mode="after")
    def _fits_scope(self) -> LayerSettings:
        if self.scope == "static":
            if FAMILIES[self.family].lossless:
                raise ValueError(
                    f"family '{self.family}' has no codes to give centroids to: scope static needs another"
                )
            if self.num_hashes > MOST_STATIC_HASHES:
                raise ValueError(f"H={self.num_hashes} is too large: scope static takes at most {MOST_STATIC_HASHES}")
            if self.capacity != 1.0 or self.metric != "euclidean":
                raise ValueError("scope static has its clusters given: leave capacity at 1 and metric at euclidean")
        if self.scope == "session" and self.table != "float":
            raise ValueError("scope session adds to its tables from run to run, which needs table float")
        if self.scope != "session" and self.memory != DEFAULT_MEMORY:
            raise ValueError("memory is of clusters that scope session keeps: leave it off with another scope")
        return self

    @model_serializer(mode="wrap")
    def _what_counts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        if self.scope != "session":
            values.pop("memory", None)
        return values

    @property
    def keeps_exact_sums(self) -> bool:
        """Whether outputs are sums of integers that are the same in all runs: what an incremental layer updates."""
        return self.scope == "static" and self.table == "int8"

    @property
    def averages_runs(self) -> bool:
        """Whether centroids are means of what a run has, so that each vector may change the results of others."""
        return self.scope != "static" and not FAMILIES[self.family].lossless

    def blocking(self, spec: ConvSpec) -> Blocking:
        """Returns how these settings cut a convolution into blocks."""
        return Blocking(spec, self.layout, self.sub_vector_length)


MOST_HELD_PIXELS = 64


class HoldSettings(BaseModel):
    """When a pixel of an input takes a new value (docs/operators.md, Hold)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    tolerances: tuple[Annotated[float, Field(ge=0.0)], ...] = Field(min_length=1)
    opening: int = Field(default=1, ge=0, le=MOST_HELD_PIXELS)
    dilation: int = Field(default=8, ge=0, le=MOST_HELD_PIXELS)
    patience: int = Field(default=0, ge=0, lt=2**31)


class ReuseConfig(BaseModel):
    """Contents of a configuration file. Convs that `layers` does not name stay dense."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    seed: int = Field(default=0, ge=0)
    layers: dict[str, LayerSettings] = Field(default_factory=dict)
    stream: Literal[True] | None = None
    """Whether the model is for streams, as with `reuse-compile --stream`."""
    hold: HoldSettings | None = None
    """How its inputs are held, unless `reuse-compile --hold` says it."""
    parameters_file: str | None = None
    """An .npz beside the configuration file with arrays `<layer>/<name>` (`reuse.fitted`): trees, weights."""

    @field_validator("parameters_file")
    @classmethod
    def _names_a_file(cls, name: str | None) -> str | None:
        if name is not None and b"\0" in os.fsencode(name):  # which raises a ValueError for other odd characters
            raise ValueError(f"{name!r} is no file name")
        return name

    @staticmethod
    def load(path: AnyPath) -> ReuseConfig:
        """Reads and validates a file; raises ConfigError naming the file, the field and what is allowed."""
        try:
            return ReuseConfig.model_validate(read_json(Path(path)))
        except JsonError as error:
            raise ConfigError(f"the configuration {path} {error}") from error
        except ValidationError as error:
            raise ConfigError(f"{path}: {describe_validation_error(error)}") from error


def describe_validation_error(error: ValidationError) -> str:
    """Returns a pydantic error as one sentence per wrong field."""
    sentences = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        sentences.append(f"{where}: {message}" if where else message)
    return "; ".join(sentences)


def make_settings(**values: Any) -> LayerSettings:
    """Builds settings, turning a validation failure into a ConfigError."""
    try:
        return LayerSettings(**values)
    except ValidationError as error:
        raise ConfigError(describe_validation_error(error)) from error
