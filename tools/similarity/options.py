"""What the user of the similarity study can choose; the command line and the Python API both fill this in."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from reuse_compiler.flags import Flag, Panel
from reuse_compiler.options import CustomOpLibraries, RegularExpression, Seed, Shapes, Threads
from reuse_compiler.reuse.config import Metric
from tools.similarity.clustering.hypercube import DEFAULT_DIMENSIONS
from tools.similarity.clustering.kmeans import DEFAULT_ITERATIONS, DEFAULT_MAX_CLUSTERS
from tools.similarity.report import Scope

STUDIED, METHODS = Panel("What is studied", 1), Panel("Methods and their efforts", 2)

MethodName = Literal["kmeans", "hypercube", "lsh"]

PAPER_SUB_VECTOR_LENGTH = 25
"""Sub-vectors of the inference paper's Fig. 6."""


class SimilarityOptions(BaseModel):
    """Choices for one study of the similarity of neuron vectors; all combinations are measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    layers: Annotated[
        RegularExpression,
        STUDIED,
        Flag("Layers in whose name this is found; each is studied alone.", name="--layer", metavar="RE", default="all"),
    ] = "."
    methods: Annotated[tuple[MethodName, ...], Field(min_length=1), METHODS, Flag("")] = get_args(MethodName)
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1), METHODS, Flag("")] = get_args(Scope)
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1), METHODS, Flag("", name="--distances")] = (
        "angular",
        "euclidean",
    )
    lengths: Annotated[
        tuple[Annotated[int, BeforeValidator(lambda value: 0 if value == "whole" else value)], ...],
        METHODS,
        Flag(
            "Elements of a neuron vector; whole: rows of the unfolded input.",
            "-L",
            default=f"whole,{PAPER_SUB_VECTOR_LENGTH}",
        ),
    ] = (0, PAPER_SUB_VECTOR_LENGTH)
    """0 stands for whole rows."""
    clusters: Annotated[
        tuple[float, ...], METHODS, Flag("Clusters of K-means per image or batch; below 1 as a share of the vectors.")
    ] = (0.003, 0.01, 0.03, 0.1, 0.3, 0.5)
    iterations: Annotated[int, Field(ge=1), METHODS, Flag("Iterations of K-means.")] = DEFAULT_ITERATIONS
    max_clusters: Annotated[
        int,
        Field(ge=1),
        METHODS,
        Flag("K-means with more is left out: it takes time as their number times that of the vectors."),
    ] = DEFAULT_MAX_CLUSTERS
    bins: Annotated[tuple[int, ...], METHODS, Flag("Bins per dimension of Hyper-Cube.")] = (2, 3, 4, 6, 8, 16)
    dimensions: Annotated[int, Field(ge=1), METHODS, Flag("Dimensions that Hyper-Cube cuts into bins, at most.")] = (
        DEFAULT_DIMENSIONS
    )
    hashes: Annotated[tuple[int, ...], METHODS, Flag("Hyperplanes of LSH.", "-H")] = (5, 8, 12, 16, 24)
    batch: Annotated[int, Field(ge=1), STUDIED, Flag("Samples per run, where the model leaves that open.")] = 1
    samples: Annotated[int | None, Field(ge=1), STUDIED, Flag("Samples to use.", default="all")] = None
    threads: Annotated[Threads, METHODS] = 1
    seed: Annotated[Seed, METHODS] = 0
    shapes: Annotated[Shapes, STUDIED] = Field(default_factory=dict)
    custom_op_libraries: Annotated[CustomOpLibraries, STUDIED] = Field(default_factory=list)

    @field_validator("lengths", "clusters", "bins", "hashes")
    @classmethod
    def _are_possible(cls, values: tuple[float, ...], info: object) -> tuple[float, ...]:
        name = getattr(info, "field_name", "")
        if not values:
            raise ValueError("give at least one number")
        if min(values) < 0 or (min(values) == 0 and name != "lengths"):
            raise ValueError(f"{min(values):g} is too small")
        return values
