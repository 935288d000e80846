"""The configuration file beside a model and the file of what was fitted: where they lie, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig
from reuse_compiler.reuse.fitted import Fitted


def configuration_of(output_path: Path) -> Path:
    """Returns where the configuration of a compiled model goes: `net.reuse.onnx` and `net.onnx` give net.reuse.json."""
    stem = output_path.name.removesuffix(".onnx").removesuffix(".reuse")
    return output_path.with_name(f"{stem}.reuse.json")


def parameters_path(config: Path) -> Path:
    """Returns where what was fitted goes: `net.reuse.json` has `net.reuse.npz` beside it."""
    return config.with_suffix(".npz")


def write_configuration(
    layers: Mapping[str, LayerSettings], fitted: Fitted, seed: int, path: Path, overwrite: bool
) -> None:
    """Writes the configuration, and beside it the file of what was fitted, both or neither."""
    parameters = parameters_path(path)
    config = ReuseConfig(seed=seed, layers=dict(layers), parameters_file=parameters.name if layers else None)
    with FileTransaction(overwrite) as files:
        if layers:
            with files.create(parameters) as stream:
                stream.write(fitted.to_bytes())
        with files.create(path) as stream:
            stream.write((config.model_dump_json(by_alias=True, indent=2, exclude_none=True) + "\n").encode())
        files.publish()
