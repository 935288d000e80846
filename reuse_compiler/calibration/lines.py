"""What became of every layer in a calibration, and why, for its report."""

from __future__ import annotations

from collections.abc import Sequence

from reuse_compiler.calibration.calibration import Outcome
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.report import LayerCalibration, Measurement
from reuse_compiler.passes.layer import ConvLayer


def layer_lines(work: Workpiece, outcome: Outcome) -> list[LayerCalibration]:
    """Returns what became of every Conv-like node, in graph order."""
    calibrated = {layer.name: layer for layer in work.layers}
    return [
        _line(calibrated[layer.name], outcome)
        if layer.name in calibrated
        else LayerCalibration(name=layer.name, decision="dense", reason=work.dense[layer.name])
        for layer in work.prepared.layers
    ]


def _line(layer: ConvLayer, outcome: Outcome) -> LayerCalibration:
    survey, chosen = outcome.surveys.get(layer.name), outcome.choice.get(layer.name)
    measurements = survey.measurements if survey else []
    errors = outcome.deployment.errors.get(layer.name)
    return LayerCalibration(
        name=layer.name,
        decision="reuse" if chosen else "dense",
        reason=_reason(measurements, chosen, outcome),
        N=layer.spec.rows,
        K=layer.spec.columns,
        M=layer.spec.out_channels,
        dense_ms=measurements[0].dense_ms if measurements else None,
        sensitivity=survey.sensitivity if survey else None,
        measurements=measurements,
        chosen=chosen,
        error_as_is=errors[0] if errors else None,
        error_reconstructed=errors[1] if errors else None,
    )


def _reason(measurements: Sequence[Measurement], chosen: Measurement | None, outcome: Outcome) -> str:
    if chosen is not None:
        return f"{chosen.dense_ms / chosen.reuse_ms:.2g} times as fast alone, within the accuracy budget"
    if not measurements:
        return "the cost model expects no gain from any settings"
    best = min(measurements, key=lambda m: m.reuse_ms / m.dense_ms)
    if best.reuse_ms >= best.dense_ms:
        return f"no settings are faster: the best are {best.reuse_ms / best.dense_ms:.2f} times as slow"
    if not outcome.choice and any(trial.accepted for trial in outcome.trials):
        return "it gains alone, but the whole model hardly becomes faster"
    return "what it gains is not worth what it costs of the accuracy budget"
