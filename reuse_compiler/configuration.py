"""The configuration file beside a model and the file of what was fitted: where they lie, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.paths import AnyPath
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.plan import Plan


def configuration_of(output_path: AnyPath) -> Path:
    """Returns where the configuration of a compiled model goes: `net.reuse.onnx` and `net.onnx` give net.reuse.json."""
    output_path = Path(output_path)
    stem = output_path.name.removesuffix(".onnx").removesuffix(".reuse")
    return output_path.with_name(f"{stem}.reuse.json")


def parameters_path(config: Path) -> Path:
    """Returns where what was fitted goes: `net.reuse.json` has `net.reuse.npz` beside it."""
    return config.with_suffix(".npz")


def write_configuration(plan: Plan, seed: int, path: AnyPath, overwrite: bool, **streams: Any) -> None:
    """Writes the plan as a configuration, and beside it the file of what was fitted, both or neither.

    `streams` are the fields that a configuration has of them.
    """
    with FileTransaction(overwrite) as files:
        create_configuration(files, plan, seed, Path(path), **streams)
        files.publish()


def create_configuration(files: FileTransaction, plan: Plan, seed: int, path: Path, **streams: Any) -> None:
    """Creates the files of a configuration among others that belong to it."""
    parameters = parameters_path(path)
    settings = {name: layer.settings for name, layer in plan.items()}
    config = ReuseConfig(seed=seed, layers=settings, parameters_file=parameters.name if plan else None, **streams)
    if plan:
        with files.create(parameters) as stream:
            stream.write(Fitted.of(plan).to_bytes())
    with files.create(path) as stream:
        stream.write((config.model_dump_json(by_alias=True, indent=2, exclude_none=True) + "\n").encode())
