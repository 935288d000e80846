"""What the user of the compiler can choose; the command line and the Python API both fill this in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from reuse_compiler.flags import Conflict, Flag, Panel
from reuse_compiler.reuse.config import (
    DEFAULT_MEMORY,
    MOST_HELD_PIXELS,
    FamilyName,
    HoldSettings,
    Lowering,
    Metric,
    ReuseConfig,
    Scope,
    TableType,
)
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Layout

WHICH, HOW, CHECK = Panel("Which layers", 1), Panel("How they are rewritten", 2), Panel("Verification", 4)
PER_LAYER = Conflict("with --config, which has settings for each layer")
FOUND_OUT = Conflict(
    "with --calibration-data, which finds out what is best; "
    "reuse-calibrate says more, and reuse-compile --config takes its result"
)
SETTING = (HOW, PER_LAYER, FOUND_OUT)


def _check_regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"'{value}' is not a regular expression: {error}") from error
    return value


RegularExpression = Annotated[str, AfterValidator(_check_regular_expression)]
"""A pattern that is searched for in layer names."""

# Options that several commands have.
Layers = Annotated[RegularExpression | None, Flag("Only layers in whose name this is found.", metavar="RE")]
Exclude = Annotated[RegularExpression | None, Flag("No layers in whose name this is found.", metavar="RE")]
TableMemory = Annotated[
    int,
    Field(ge=0, lt=2**43),
    Flag(
        "The most that the tables of static layers may take, which sessions keep; layers beyond it make theirs in each "
        "run.",
        metavar="MIB",
    ),
]
DEFAULT_TABLE_MEMORY = 512
HELD = ("opening", "dilation", "patience")
"""The fields of `HoldSettings` that are options called hold_..., too."""
Seed = Annotated[int, Field(ge=0), Flag("Seed of everything random.")]
Threads = Annotated[int, Field(ge=1), Flag("Threads that each model runs with.")]
Shapes = Annotated[
    dict[str, tuple[int, ...]],
    Flag(
        "Sizes of an input that has dynamic ones, as in images:1,3,224,224; repeat it for further inputs.",
        name="--shape",
    ),
]

CustomOpLibraries = Annotated[
    list[Path],
    Flag(
        "Another library of operators that the model needs to be run; repeat it for further ones.",
        name="--custom-op-library",
        metavar="PATH",
    ),
]


class CompileOptions(BaseModel):
    """Choices for one compilation; None means that the compiler chooses."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    config: Annotated[
        Path | None,
        WHICH,
        FOUND_OUT,
        Flag("Settings by layer, as calibration writes them; layers that it does not name stay dense.", metavar="FILE"),
    ] = None
    layers: Annotated[Layers, WHICH] = None
    exclude: Annotated[Exclude, WHICH] = None
    family: Annotated[
        FamilyName | None,
        HOW,
        PER_LAYER,
        Flag(
            "How neuron vectors are hashed: exact (lossless), sign (random hyperplanes, as in the papers) or learned "
            "(needs --config).",
            default="exact",
        ),
    ] = None
    sub_vector_length: Annotated[
        int | None,
        Field(ge=1),
        SETTING,
        Flag(
            "Elements of a neuron vector: fewer are more exact, more are faster.",
            "-L",
            default="the channels of the layer's input",
        ),
    ] = None
    num_hashes: Annotated[
        int | None,
        Field(ge=1, le=64),
        SETTING,
        Flag("Hash functions: more make more and tighter clusters.", "-H", default="by the layer's size"),
    ] = None
    scope: Annotated[
        Scope | None,
        HOW,
        PER_LAYER,
        Flag(
            "Which vectors share clusters: those of one image, of the whole batch, or of all runs of a session; or all "
            "take static clusters, which calibration finds (needs --config or --calibration-data).",
            default="batch",
        ),
    ] = None
    layout: Annotated[
        Literal["auto", Layout],
        SETTING,
        Flag("Vectors are parts of a patch or channels of a pixel; auto: channel where L divides the channels."),
    ] = "auto"
    capacity: Annotated[
        float | None,
        Field(gt=0.0, le=1.0),
        SETTING,
        Flag(
            "Clusters per vector (above 0, up to 1) beyond which a run computes the rest densely.",
            metavar="r",
            default="1, no limit",
        ),
    ] = None
    distance: Annotated[
        Metric | None,
        SETTING,
        Flag(
            "What makes vectors similar, and so what a centroid keeps of them: their mean (euclidean) or their mean "
            "direction (angular).",
            default="euclidean",
        ),
    ] = None
    table: Annotated[
        TableType | None,
        SETTING,
        Flag(
            "What products are kept as: int8 makes small L affordable at a little error (fused only).", default="float"
        ),
    ] = None
    memory: Annotated[
        int | None,
        Field(ge=0, lt=2**63),
        SETTING,
        Flag(
            "The most that the clusters of scope session may take, by layer.",
            metavar="BYTES",
            default=f"{DEFAULT_MEMORY}",
        ),
    ] = None
    table_memory: Annotated[TableMemory, HOW] = DEFAULT_TABLE_MEMORY
    stream: Annotated[
        bool,
        HOW,
        Flag(
            "For runs whose inputs are much alike, as the frames of a fixed camera: quantised layers, and static ones "
            "with int8 tables, keep what they have computed and compute what has changed. Every result is the same "
            "bit for bit (the CPU only)."
        ),
    ] = False
    hold: Annotated[
        tuple[float, ...] | None,
        HOW,
        FOUND_OUT,
        Flag(
            "A gate for the noise of a camera, for --stream, which it implies: a pixel of an image input keeps its "
            "value until it differs by more than this, in the units of the input, or by more than one of these, by "
            "channel. It changes results, which depend on earlier runs then.",
            metavar="TOLERANCE",
            default="inputs are taken as they are",
        ),
    ] = None
    hold_opening: Annotated[
        int,
        Field(ge=0, le=MOST_HELD_PIXELS),
        HOW,
        FOUND_OUT,
        Flag("Changes that are smaller than a square with so many pixels on each side of its centre are noise."),
    ] = 1
    hold_dilation: Annotated[
        int,
        Field(ge=0, le=MOST_HELD_PIXELS),
        HOW,
        FOUND_OUT,
        Flag("So many pixels around others take their new value, too."),
    ] = 8
    hold_patience: Annotated[
        int,
        Field(ge=0, lt=2**31),
        HOW,
        FOUND_OUT,
        Flag(
            "Every so many frames, pixels that have differed by more than half of the tolerance in all of them take "
            "their new value, too, however few they are; 0: never."
        ),
    ] = 0
    lowering: Annotated[Lowering, HOW, FOUND_OUT, Flag("One operator per layer, or its four stages to look into.")] = (
        "fused"
    )
    single: Annotated[
        bool,
        HOW,
        FOUND_OUT,
        Flag(
            "Write the form with reuse alone. Otherwise lossless reuse stands beside the original nodes, and each run "
            "takes what its input suits: one that does not repeat is as fast as before. Two forms hold weights twice."
        ),
    ] = False
    force: Annotated[bool, WHICH, FOUND_OUT, Flag("Also layers that are predicted to become slower.")] = False
    fallback: Annotated[
        bool,
        HOW,
        FOUND_OUT,
        Flag(
            "Keep what the model needs to run as the original did where the operator library is missing: a function "
            "for each operator, and the original's weights of layers whose weights were fitted."
        ),
    ] = True
    seed: Annotated[Seed, HOW] = 0
    shapes: Annotated[Shapes, CHECK] = Field(default_factory=dict)
    custom_op_libraries: Annotated[CustomOpLibraries, CHECK] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _stream_if_held(cls, values: Any) -> Any:
        held = isinstance(values, dict) and values.get("hold") is not None
        return {**values, "stream": True} if held else values

    @field_validator("hold")
    @classmethod
    def _are_tolerances(cls, hold: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if hold is not None and not (hold and min(hold) >= 0.0):
            raise ValueError("a tolerance is a number from 0 on")
        return hold

    @property
    def held(self) -> HoldSettings | None:
        """How inputs are held, if they are."""
        if self.hold is None:
            return None
        return HoldSettings(tolerances=self.hold, **{name: getattr(self, f"hold_{name}") for name in HELD})

    def with_config(self, config: ReuseConfig) -> CompileOptions:
        """Returns the options with what a configuration has of streams; what is held is as these options say, if so."""
        changed: dict[str, Any] = {"stream": self.stream or bool(config.stream)}
        if self.hold is None and config.hold is not None:
            changed |= {"hold": config.hold.tolerances, "stream": True}
            changed |= {f"hold_{name}": getattr(config.hold, name) for name in HELD}
        return self.model_copy(update=changed)

    @property
    def guarded(self) -> bool:
        """Whether layers use reuse only in runs whose input repeats enough: what nobody measured nor demanded."""
        lossless = self.family is None or FAMILIES[self.family].lossless
        lossless &= self.table != "int8" and self.lowering == "fused"
        return lossless and not (self.single or self.force or self.config)
