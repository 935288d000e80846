"""Calibrates a model in memory and compiles it with what was found, for what measures its forms beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

import reuse_compiler
from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.compiled import CompiledModel
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.verification.inputs import Feed


def calibrated(
    model: onnx.ModelProto,
    feeds: Sequence[Feed],
    options: CalibrationOptions,
    progress: ProgressCallback,
    *,
    changes: Sequence[Mapping[str, Any]] = ({},),
    resume: bool = False,
) -> list[CompiledModel]:
    """Calibrates a model on the feeds, for their shapes, and returns it compiled, once for each of the `changes`.

    Each of these has fields of the configuration that was found, with what stands there instead.
    """
    shapes = {name: array.shape for name, array in feeds[0].items()}
    with TemporaryDirectory() as folder:
        path, config = Path(folder) / "net.onnx", Path(folder) / "net.json"
        onnx.save(model, path)
        own_options = options.model_copy(update={"shapes": shapes})
        calibrate_file(path, list(feeds), config, own_options, resume=resume, progress=progress)
        found, compiled = ReuseConfig.load(config), []
        for change in changes:
            own = found.model_copy(update=change)
            config.write_text(own.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
            compiled.append(reuse_compiler.compile(path, config=config, shapes=shapes, verify=False))
        return compiled
