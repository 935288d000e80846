"""Measures networks on frames in their order: what is kept from frame to frame, and what holding inputs adds.

    python -m tools.stream_results --json docs/results/streams.json    # hours; needs vtest.avi and OpenCV
    python -m tools.stream_results --network hed --clip film-half --frames 20 --fit 9 --at-least 30 --budget quick

Each network is calibrated and quantised on frames before those that are measured. All of our forms run every frame, and
every tenth frame the original and the quantised model do, too, which the outputs are compared with. One thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Annotated, Any

import numpy as np
import onnx
from pydantic import BaseModel, Field

import reuse_compiler
from models.datasets import RgbImage
from reuse_compiler.benchmark.report import FrameTimes, summarize_frames
from reuse_compiler.calibration.options import BudgetName, CalibrationOptions
from reuse_compiler.cli.bench import JsonFile, check_json, write_json
from reuse_compiler.cli.command import run_command, stdout_console
from reuse_compiler.cli.flags import Logging
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reports.table import Row, number, numbers, print_table, words
from reuse_compiler.runtime import statistics
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.quantised import quantise
from reuse_compiler.verification.sessions import open_session, runner
from reuse_compiler.verification.timing import Turns, on_one_processor
from tools.calibrated import calibrated
from tools.calibration_results.pictures import FRAME_SIZE
from tools.measured import Measured, decibels, finite_psnr
from tools.streams import FULL_SIZE, TOLERANCE, Network, film, packaged_network, pan, screen

ORIGINAL, INT8 = "original", "int8"
STATIC, STREAM, HOLD = "static", "static, stream", "static, hold"
"""The calibrated layers: as they are, with what they keep, with inputs that are held, too."""
BYTES, BYTES_STREAM, BYTES_HOLD = "int8 exact", "int8 exact, stream", "int8 exact, hold"
"""The quantised model with lossless reuse, likewise."""
CHOSEN_ON = 6
"""Frames that layers of the quantised model are timed on: of two, only one goes on from another."""
NETWORKS = ("hed", "craft")


class Line(BaseModel):
    """A form of a network on a clip."""

    network: str
    clip: str
    size: str
    form: str
    times: FrameTimes
    original_ms: float
    int8_ms: float
    """Medians of the frames on which these were run."""
    psnr: float | None
    """Of the outputs beside the original's; None where they are equal."""
    differing: int
    """Values of the outputs that are not those of the quantised model."""
    changed: float | None
    """Share of the pixels that took a new value, where inputs are held."""
    tolerance: float | None = None
    """Within which they are, in 255ths of the inputs' range."""
    patience: int | None = None


class Results(Measured):
    """All that was measured."""

    at_least: float
    """PSNR that calibrations kept on their own samples."""
    lines: list[Line]


@dataclass(frozen=True)
class Clip:
    """Frames to fit to and frames to measure, by how many are wanted, and the forms that are for them."""

    read: Callable[[int, int], tuple[Sequence[RgbImage], Sequence[RgbImage]]]
    forms: tuple[str, ...] = (STATIC, STREAM, HOLD, BYTES, BYTES_STREAM, BYTES_HOLD)


CLIPS = {
    "film-half": Clip(partial(film, size=FRAME_SIZE)),
    "film-full": Clip(partial(film, size=FULL_SIZE)),
    "moving": Clip(pan),
    "screen": Clip(screen, (BYTES, BYTES_STREAM)),
}


@dataclass(frozen=True)
class Settings:
    """How much is measured, and how layers are chosen."""

    frames: int
    fit: int
    every: int
    at_least: float
    budget: BudgetName
    calibrated: bool
    """Whether there are static layers, too."""
    tolerance: float = TOLERANCE
    patience: int = 0
    """How the quantised model's inputs are held."""
    forms: Sequence[str] = ()
    """Only these, if there are any."""

    def wanted(self, clip: Clip) -> tuple[str, ...]:
        """Returns the forms to measure on a clip."""
        left_out = () if self.calibrated else (STATIC, STREAM, HOLD)
        return tuple(form for form in clip.forms if form not in left_out and (not self.forms or form in self.forms))


def static_forms(
    network: Network, feeds: Sequence[Feed], settings: Settings, progress: ProgressCallback
) -> dict[str, onnx.ModelProto]:
    """Returns the network with the layers that a calibration chooses, in all forms."""
    wish: dict[str, Any] = {"metric": "psnr", "at_least": settings.at_least, "budget": settings.budget}
    options = CalibrationOptions(stream=True, scope="static", **wish)
    changes: dict[str, dict[str, None]] = {STATIC: {"stream": None, "hold": None}, STREAM: {"hold": None}, HOLD: {}}
    found = calibrated(network.original, feeds, options, progress, changes=list(changes.values()), resume=True)
    return {form: each.model for form, each in zip(changes, found, strict=True)}


def lossless(
    quantised: onnx.ModelProto,
    feeds: Sequence[Feed],
    forms: Sequence[str],
    settings: Settings,
    progress: ProgressCallback,
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yields the quantised network with the layers that are measured to pay on the last of the frames."""
    (samples,) = map(np.concatenate, zip(*(feed.values() for feed in feeds), strict=True))
    hold = {"hold": (settings.tolerance / 255 * float(np.ptp(samples)),), "hold_patience": settings.patience}
    for form, more in ((BYTES, {}), (BYTES_STREAM, {"stream": True}), (BYTES_HOLD, hold)):
        if form in forms:
            choose: dict[str, Any] = {"verify_data": samples[-CHOSEN_ON:], "progress": progress, **more}
            yield form, reuse_compiler.compile(quantised, **choose).model


def measure(network: Network, clip: str, settings: Settings, progress: ProgressCallback) -> list[Line]:
    """Runs all forms of a network on a clip."""
    forms, (before, images) = settings.wanted(CLIPS[clip]), CLIPS[clip].read(settings.fit, settings.frames)
    feeds = list(network.feeds(before))
    quantised = quantise(network.original, feeds, "QDQ", "QUInt8")
    models = dict(lossless(quantised, feeds, forms, settings, progress))
    if {STATIC, STREAM, HOLD}.intersection(forms):
        chosen = static_forms(network, feeds, settings, progress)
        models = {form: model for form, model in chosen.items() if form in forms} | models
    ours = {form: open_session(model, 1, form) for form, model in models.items()}
    others = {form: open_session(model, 1, form) for form, model in ((ORIGINAL, network.original), (INT8, quantised))}
    turns, beside = (Turns({form: runner(each, None, form) for form, each in of.items()}) for of in (ours, others))
    errors, from_int8 = ({form: Difference() for form in ours} for _ in range(2))
    with on_one_processor(1):
        for index, feed in enumerate(network.feeds(images)):
            progress(f"{network.name}, {clip}", index, settings.frames)
            outputs = turns.round(feed)
            if index % settings.every == 0:
                expected = beside.round(feed)
                for form, found in outputs.items():
                    for wanted, quantised_y, y in zip(expected[ORIGINAL], expected[INT8], found, strict=True):
                        errors[form].add(wanted, y)
                        from_int8[form].add(quantised_y, y)
            if index == 0:
                turns.forget_times()
                beside.forget_times()
    height, width = images[0].shape[:2]
    return [
        Line(
            network=network.name,
            clip=clip,
            size=f"{width}x{height}",
            form=form,
            times=summarize_frames(turns.samples[form]),
            original_ms=median(beside.samples[ORIGINAL]),
            int8_ms=median(beside.samples[INT8]),
            psnr=finite_psnr(errors[form]),
            differing=from_int8[form].differing + from_int8[form].broken,
            changed=next((n.changed / n.vectors for n in statistics(session) if n.op == "Hold"), None),
            tolerance=settings.tolerance if form == BYTES_HOLD else None,
            patience=settings.patience if form == BYTES_HOLD else None,
        )
        for form, session in ours.items()
    ]


def print_lines(lines: Sequence[Line], console: Any) -> None:
    """Prints a row for each line."""
    columns = [*words("network", "clip", "size", "form"), *numbers("ms", "95%", "frames/s", "original ms", "int8 ms")]
    columns += numbers("times the original", "times int8", "dB", "differing", "pixels changed")
    rows = []
    for line in lines:
        ms = line.times.median_ms
        cells = [line.network, line.clip, line.size, line.form]
        cells += [
            number(n) for n in (ms, line.times.p95_ms, line.times.frames_per_second, line.original_ms, line.int8_ms)
        ]
        cells += [f"{line.original_ms / ms:.2f}", f"{line.int8_ms / ms:.2f}"]
        cells += [decibels(line.psnr), str(line.differing)]
        rows.append(Row([*cells, "-" if line.changed is None else f"{line.changed:.1%}"]))
    print_table(columns, rows, console)


@with_flags
def main(
    names: Annotated[list[str] | None, Flag("Only this network; repeat it for further ones.", name="--network")] = None,
    clips: Annotated[
        list[str] | None, Flag(f"Only this clip, of {', '.join(CLIPS)}; repeat it.", name="--clip")
    ] = None,
    measured: Annotated[int, Field(ge=3), Flag("Frames to measure.", name="--frames")] = 200,
    fit: Annotated[int, Field(ge=3), Flag("Frames to calibrate on.")] = 24,
    every: Annotated[int, Field(ge=1), Flag("The original and int8 run every so many frames.")] = 10,
    at_least: Annotated[float, Flag("The PSNR that calibrations keep.")] = 35.0,
    budget: Annotated[BudgetName, Flag("How much calibrations try.")] = "default",
    calibrated: Annotated[bool, Flag("Measure static layers, too, which takes calibrations.")] = True,
    tolerance: Annotated[
        float, Field(ge=0), Flag("What the quantised model's inputs are held within, in 255ths of their range.")
    ] = TOLERANCE,
    patience: Annotated[int, Field(ge=0), Flag("Frames after which a hold of these takes what lasts; 0: never.")] = 0,
    forms: Annotated[list[str] | None, Flag("Only this form, as rows call it; repeat it.", name="--form")] = None,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure networks on streams beside the original and int8, on one thread."""
    check_json(json_file)
    settings = Settings(measured, fit, every, at_least, budget, calibrated, tolerance, patience, forms or ())
    lines = list[Line]()
    with working(log_level) as progress:
        for name in names or NETWORKS:
            for clip in clips or CLIPS:
                lines += measure(packaged_network(name), clip, settings, progress)
    results = Results.here(at_least=at_least, lines=lines)
    write_json(results, json_file)
    print_lines(lines, stdout_console())


if __name__ == "__main__":
    run_command(main, "python -m tools.stream_results")
