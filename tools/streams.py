"""What streams are measured on: clips, whose frames follow one another, and networks that take them one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFont

from models import packaged
from models.datasets import RgbImage
from models.preprocessing import Preprocessing
from reuse_compiler.verification.inputs import Feed
from tools.calibration_results.pictures import FRAME_SIZE, frames
from tools.images import MARGIN, PAGE_HEIGHT, PLAIN, render_page

FITTED_FROM, MEASURED_FROM = 400, 550
"""Numbers of frames of the film."""
FULL_SIZE = 768, 576
PACE = 6, 3
"""Pixels of a frame by which the moving camera moves."""
TOLERANCE = 11.0
"""Within which the quantised model's inputs are held, in 255ths of their range."""


@dataclass(frozen=True)
class Network:
    """A network with one input."""

    name: str
    original: onnx.ModelProto
    prepare: Preprocessing

    def feeds(self, images: Sequence[RgbImage]) -> Iterator[Feed]:
        """Yields what it takes for each image."""
        return ({self.original.graph.input[0].name: self.prepare([image])} for image in images)


def packaged_network(name: str) -> Network:
    """Loads one of the packaged networks."""
    return Network(name, onnx.load(packaged.load(name)), packaged.REGISTRY[name].preprocessing)


def film(fit: int, measured: int, size: tuple[int, int]) -> tuple[Sequence[RgbImage], Sequence[RgbImage]]:
    """A fixed camera above people who walk."""
    parts = (FITTED_FROM, fit), (MEASURED_FROM, measured)
    before, after = (frames(first, count, 1, size)().images for first, count in parts)
    return before, after


def pan(fit: int, measured: int) -> tuple[Sequence[RgbImage], Sequence[RgbImage]]:
    """A camera that moves to and fro over the same scene."""
    (width, height), most = FRAME_SIZE, [full - own for full, own in zip(FULL_SIZE, FRAME_SIZE, strict=True)]

    def moved(index: int, image: RgbImage) -> RgbImage:
        left, top = (abs((index * pace + end) % (2 * end) - end) for pace, end in zip(PACE, most, strict=True))
        return image[top : top + height, left : left + width]

    before, after = film(fit, measured, FULL_SIZE)
    return [moved(i, image) for i, image in enumerate(before)], [moved(i, image) for i, image in enumerate(after)]


def screen(fit: int, measured: int) -> tuple[Sequence[RgbImage], Sequence[RgbImage]]:
    """A page of which nothing changes but a line that is being typed."""

    def typed(page: int, characters: int) -> RgbImage:
        image = Image.fromarray(render_page(page))
        line = ("the quick brown fox jumps over the lazy dog " * 20)[: characters % PLAIN.columns]
        font = ImageFont.load_default(PLAIN.letters)
        ImageDraw.Draw(image).text((MARGIN, PAGE_HEIGHT - PLAIN.line_height), line, font=font, fill=PLAIN.ink)
        return np.asarray(image)

    return [typed(0, index) for index in range(fit)], [typed(1, index) for index in range(measured)]
