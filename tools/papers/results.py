"""What is measured for the page of the papers, as docs/results keeps it."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from reuse_compiler.benchmark.report import Machine
from reuse_compiler.reuse.config import Metric
from tools.similarity.report import Scope

FOLDER = Path("docs/results")
KEPT = 0.01
"""What may be missing of an accuracy that counts as kept."""
Point = tuple[float, float, float]
"""Effort (H, or clusters as a share of the vectors), r_c, top-1 accuracy."""


class Curve(BaseModel):
    """One layer from the centroids of its clusters, the rest of the network as it is."""

    network: str
    layer: str
    K: int
    images: int
    original: float
    """Top-1 of the network as it is."""
    method: str
    scope: Scope
    metric: Metric
    L: int
    points: list[Point]

    def kept(self) -> list[float]:
        """Returns the r_c at which the accuracy is the original's, or nearly so."""
        return [r_c for _, r_c, top1 in self.points if top1 >= self.original - KEPT]


class Curves(BaseModel):
    """All of them."""

    curves: list[Curve]


class Speed(BaseModel):
    """One form of a layer, and the dense Conv that took turns with it."""

    r_c: float
    dense_ms: float
    ms: float
    reuse_rate: float | None = None


class LayerSpeeds(BaseModel):
    """A row of Table II."""

    network: str
    layer: str
    K: int
    M: int
    batch: int
    cube: Speed
    lsh: Speed
    session: Speed
    trees: Speed
    """Trees and int8 tables at the L and r_c of `lsh`."""
    static: Speed | None
    """Trees of 256 leaves, fixed centroids and int8 tables, at the L of `lsh`; first layers have too few channels."""

    def speeds(self) -> dict[str, float]:
        """Returns the speed-ups of all forms."""
        return {name: own.dense_ms / own.ms for name, own in self if isinstance(own, Speed)}


class Layers(BaseModel):
    """All of them."""

    machine: Machine
    repeats: int
    layers: list[LayerSpeeds]


class Perforated(BaseModel):
    """A network of which some layers compute some pixels only."""

    network: str
    saved: dict[str, float]
    """How many times fewer operations, by layer."""
    images: int
    top1: dict[str, float]
    """By mask, and of the original."""


class Perforation(BaseModel):
    """All of them."""

    networks: list[Perforated]


def path_of(name: str) -> Path:
    """Where a result is kept."""
    return FOLDER / f"papers_{name}.json"


def write(result: BaseModel, name: str) -> None:
    """Writes a result with a line for each element of its lists: they are many, and read one at a time."""
    fields = []
    for key, value in json.loads(result.model_dump_json()).items():
        listed = isinstance(value, list)
        lines = ",\n".join(f"  {json.dumps(each)}" for each in value) if listed else json.dumps(value)
        fields.append(f' "{key}": [\n{lines}\n ]' if listed else f' "{key}": {lines}')
    path_of(name).write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")
