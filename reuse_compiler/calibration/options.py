"""What the user of the calibration can choose; the command line and the Python API both fill this in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.flags import Flag, Panel
from reuse_compiler.options import (
    DEFAULT_TABLE_MEMORY,
    CustomOpLibraries,
    Exclude,
    Layers,
    Seed,
    Shapes,
    TableMemory,
    Threads,
)
from reuse_compiler.reuse.config import FamilyName
from reuse_compiler.runtime import ProviderName

FamilyChoice = Literal[FamilyName, "all"]
ScopeChoice = Literal["image", "batch", "static", "both"]
"""Not `session`: a layer is timed on one input again and again, of which such a scope would know every vector."""
Objective = Literal["latency", "operations"]
Strategy = Literal["search", "papers"]
BudgetName = Literal["quick", "default", "extensive"]
DropType = Literal["absolute", "relative"]

Backend = Literal["loky", "dask", "ray"]

DATA, BUDGET, SEARCH = Panel("Data", 1), Panel("Accuracy budget", 2), Panel("Search", 3)

DEFAULT_MAX_DROP = 0.0005
"""Half a thousandth of accuracy: what the papers call no loss."""

# Options that reuse-compile has, too: the accuracy budget.
MetricName = Annotated[
    str | None,
    Flag(
        "What must not suffer: top1, agreement (same class as the original), iou\\[:threshold,channel], psnr, cosine, "
        "mse, kl, or python:module:function.",
        metavar="NAME",
        default="top1 with labels, agreement for a classifier, else cosine",
    ),
]
MaxDrop = Annotated[
    float | None,
    Field(ge=0.0),
    Flag("How much worse than the original's the metric may be.", metavar="x", default=f"{DEFAULT_MAX_DROP:g}"),
]
DropTypeChoice = Annotated[
    DropType | None,
    Flag("Whether --max-drop is in the metric's units, or a share of the original's value.", default="absolute"),
]
AtLeast = Annotated[
    float | None,
    Flag("The value it must keep instead (for mse and kl: stay below); psnr needs it.", metavar="x"),
]


class CalibrationOptions(BaseModel):
    """Choices for one calibration; None means that the calibration chooses."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    metric: Annotated[MetricName, BUDGET] = None
    max_drop: Annotated[MaxDrop, BUDGET] = None
    drop_type: Annotated[DropTypeChoice, BUDGET] = None
    at_least: Annotated[AtLeast, BUDGET] = None
    objective: Annotated[Objective, SEARCH, Flag("Make the model's time least, or its operations.")] = "latency"
    strategy: Annotated[Strategy, SEARCH, Flag("Search over all layers together, or the papers' choice by layer.")] = (
        "search"
    )
    reconstruct: Annotated[
        Reconstruct,
        SEARCH,
        Flag(
            "What makes up for the error: a scale and offset per channel (statistics) or a refit of the weights, both "
            "folded into the model at no cost in time."
        ),
    ] = "weights"
    family: Annotated[FamilyChoice, SEARCH, Flag("How vectors are hashed.")] = "learned"
    scope: Annotated[
        ScopeChoice,
        SEARCH,
        Flag(
            "Clusters of each image, of each batch, or static ones, which are fixed to the samples; both: whichever of "
            "batch and static suits a layer."
        ),
    ] = "both"
    table_memory: Annotated[TableMemory, SEARCH] = DEFAULT_TABLE_MEMORY
    budget: Annotated[BudgetName, SEARCH, Flag("How many settings are tried, and on how much data.")] = "default"
    layers: Annotated[Layers, SEARCH] = None
    exclude: Annotated[Exclude, SEARCH] = None
    stream: Annotated[
        bool,
        DATA,
        Flag(
            "The samples are frames of a stream in their order, and so is what the model will be run on: layers keep "
            "sums, candidates are timed on consecutive frames, and inputs are held (see reuse-compile --hold) as much "
            "as the accuracy budget allows."
        ),
    ] = False
    holdout: Annotated[
        float, Field(gt=0.0, lt=1.0), DATA, Flag("Share of the samples that only the last check sees.", metavar="share")
    ] = 0.3
    compare_int8: Annotated[
        bool,
        SEARCH,
        Flag("Also quantise the model as onnxruntime does, on the same samples, and measure that on those held out."),
    ] = False
    provider: Annotated[ProviderName, SEARCH, Flag("Where everything runs that is measured.")] = "cpu"
    threads: Annotated[Threads, SEARCH] = 1
    seed: Annotated[Seed, SEARCH] = 0
    workers: Annotated[
        int, Field(ge=1), SEARCH, Flag("Processes that fit and compute errors; times are measured by one alone.")
    ] = 1
    backend: Annotated[
        Backend, SEARCH, Flag("Where those processes are: on this machine (loky), or in a cluster (dask, ray).")
    ] = "loky"
    scheduler: Annotated[
        str | None,
        SEARCH,
        Flag(
            "Address of the cluster's scheduler, as in tcp://10.0.0.1:8786 (dask) or 10.0.0.1:6379 (ray).",
            metavar="ADDRESS",
        ),
    ] = None
    shapes: Annotated[Shapes, DATA] = Field(default_factory=dict)
    custom_op_libraries: Annotated[CustomOpLibraries, DATA] = Field(default_factory=list)
