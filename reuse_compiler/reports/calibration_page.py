"""The report of a calibration as one self-contained HTML page: no scripts, no requests, light and dark."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.reports import calibration_figures as figures
from reuse_compiler.reports import calibration_words
from reuse_compiler.reports.json_file import write_text
from reuse_compiler.reports.page import TEMPLATES, check_extra, render
from reuse_compiler.reports.table import number


def write_html(report: CalibrationReport, path: Path, overwrite: bool = False) -> None:
    """Writes the page in one step; raises OutputError without the extra `report`, or if it cannot be written."""
    write_text(page(report), path, overwrite)


def page(report: CalibrationReport) -> str:
    """Returns the whole page; raises OutputError without the extra `report`."""
    check_extra()
    rewritten = calibration_words.rewritten(report)
    measured = [layer for layer in report.layers if layer.measurements]
    pieces = figures.shares(report.layers)
    corrected = [layer for layer in rewritten if layer.error_reconstructed is not None]
    return render(
        TEMPLATES / "calibration.html",
        report=report,
        say=calibration_words,
        number=number,
        rewritten=rewritten,
        chosen=calibration_words.chosen_trial(report),
        shares=pieces,
        times=figures.times_figure(pieces) if any(piece.before for piece in pieces) else None,
        trials=figures.speed_figure(report),
        far=len(report.trials) - len(figures.near_trials(report)),
        measured=measured,
        curves=figures.curve_figures(measured),
        curve_keys=figures.curve_keys(measured),
        corrected=corrected,
        reconstruction=figures.reconstruction_figure(corrected),
        clusters=[
            (picture, len(set(chain(*picture.ids))), figures.cluster_images(picture))
            for picture in report.pictures
            if picture.ids and picture.ids[0]
        ],
    )
