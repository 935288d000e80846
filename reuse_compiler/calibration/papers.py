"""The papers' own selection of {L, H} per layer, for comparison (`--strategy papers`).

Ranges by Policy 1 and 2 (training paper, section V-A); of all settings with which the model, reused in that layer only,
recovers its accuracy, the one with the largest M / (H + r_c M + M/L), the inverse of Eq. 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import Measurement
from reuse_compiler.calibration.search import Choice, TryChoice
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.reuse.config import FamilyName, LayerSettings, make_settings
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.policies import num_hashes_range, sub_vector_length_range

FAMILY: FamilyName = "sign"
"""The papers' hash."""
VALUES = 4
"""Values of L, and of H, that are tried of each range."""


def papers_candidates(layers: Sequence[ConvLayer], options: CalibrationOptions) -> dict[str, list[LayerSettings]]:
    """Returns the settings in the policies' ranges, by layer, in the papers' layout of the unfolded input."""
    scope = "batch" if options.scope == "both" else options.scope
    return {
        layer.name: [
            make_settings(family=FAMILY, layout="patch", L=length, H=hashes, scope=scope)
            for length in _spread(*sub_vector_length_range(layer.spec, first_layer=index == 0))
            for hashes in _spread(*num_hashes_range(layer.spec.rows))
            if hashes <= FAMILIES[FAMILY].max_hashes
        ]
        for index, layer in enumerate(layers)
    }


def papers_choice(
    measurements: dict[str, list[Measurement]], layers: Sequence[ConvLayer], try_choice: TryChoice
) -> Choice:
    """Returns each layer's best settings that alone recover the accuracy, tried together at last."""
    outputs = {layer.name: layer.spec.out_channels for layer in layers}
    choice: Choice = {}
    for name, found in measurements.items():
        for measurement in sorted(found, key=lambda m: saved(m, outputs[name]), reverse=True):
            s = measurement.settings
            if try_choice(f"{name} alone, L={s.sub_vector_length} H={s.num_hashes}", {name: measurement}).accepted:
                choice[name] = measurement
                break
    if len(choice) > 1:
        try_choice("all layers that recover alone", choice)
    return choice


def saved(measurement: Measurement, out_channels: int) -> float:
    """Returns M / (H + r_c M + M/L): how many times fewer operations, by the papers' count."""
    settings, m = measurement.settings, out_channels
    return m / (settings.num_hashes + measurement.r_c * m + m / settings.sub_vector_length)


def _spread(smallest: int, largest: int) -> list[int]:
    """Returns up to VALUES numbers of a range, its ends among them."""
    steps = min(VALUES, largest - smallest + 1)
    return sorted({smallest + (largest - smallest) * step // max(steps - 1, 1) for step in range(steps)})
