"""What the user of the similarity study can choose; the command line and the Python API both fill this in."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reuse_compiler.reuse.config import Metric, Scope
from tools.similarity.clustering.hypercube import DEFAULT_DIMENSIONS
from tools.similarity.clustering.kmeans import DEFAULT_ITERATIONS, DEFAULT_MAX_CLUSTERS

MethodName = Literal["kmeans", "hypercube", "lsh"]

PAPER_SUB_VECTOR_LENGTH = 25
"""Sub-vectors of the inference paper's Fig. 6."""


class SimilarityOptions(BaseModel):
    """Choices for one study of the similarity of neuron vectors; all combinations are measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: str = "."
    """Regular expression searched in layer names; each layer that matches is studied, alone."""
    methods: tuple[MethodName, ...] = Field(default=get_args(MethodName), min_length=1)
    scopes: tuple[Scope, ...] = Field(default=get_args(Scope), min_length=1)
    metrics: tuple[Metric, ...] = Field(default=("angular", "euclidean"), min_length=1)
    lengths: tuple[int, ...] = (0, PAPER_SUB_VECTOR_LENGTH)
    """L, elements of a neuron vector; 0 stands for whole rows of the unfolded input."""
    clusters: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 0.5)
    """K-means: clusters per image or batch; below 1 their share in its vectors."""
    iterations: int = Field(default=DEFAULT_ITERATIONS, ge=1)
    max_clusters: int = Field(default=DEFAULT_MAX_CLUSTERS, ge=1)
    """K-means with more clusters is left out: it takes time as their number times that of the vectors."""
    bins: tuple[int, ...] = (2, 3, 4, 6, 8, 16)
    """Hyper-Cube: bins per dimension."""
    dimensions: int = Field(default=DEFAULT_DIMENSIONS, ge=1)
    """Hyper-Cube: dimensions that are cut into bins, at most."""
    hashes: tuple[int, ...] = (5, 8, 12, 16, 24)
    """LSH: H, hyperplanes."""
    batch: int = Field(default=1, ge=1)
    """Samples per run, where the model leaves that open."""
    samples: int | None = Field(default=None, ge=1)
    """Samples to use; None: all."""
    threads: int = Field(default=1, ge=1)
    """Threads that the model runs with."""
    seed: int = Field(default=0, ge=0)
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)

    @field_validator("layers")
    @classmethod
    def _is_regular_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is not a regular expression: {error}") from error
        return value

    @field_validator("lengths", "clusters", "bins", "hashes")
    @classmethod
    def _are_possible(cls, values: tuple[float, ...], info: object) -> tuple[float, ...]:
        name = getattr(info, "field_name", "")
        if not values:
            raise ValueError("give at least one number")
        if min(values) < 0 or (min(values) == 0 and name != "lengths"):
            raise ValueError(f"{min(values):g} is too small")
        return values
