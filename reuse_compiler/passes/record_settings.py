"""Writes what was chosen into the model's metadata, so that a compiled model tells how it was made."""

from __future__ import annotations

import onnx

from reuse_compiler._version import VERSION
from reuse_compiler.options import CompileOptions
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.plan import Plan

PREFIX = "reuse."


def record_settings(model: onnx.ModelProto, plan: Plan, options: CompileOptions) -> None:
    """Sets the metadata keys `reuse.version`, `reuse.layers` and `reuse.options` of the rewritten model.

    `reuse.layers` maps layer names to settings as in a configuration file; `reuse.options` is what the user asked for.
    """
    settings = {name: layer.settings for name, layer in plan.items()}
    layers = ReuseConfig(layers=settings).model_dump_json(by_alias=True, include={"layers"})
    own = options.model_copy(update={"config": options.config and options.config.name})
    values = {
        "version": VERSION,
        "layers": layers.removeprefix('{"layers":').removesuffix("}"),
        "options": own.model_dump_json(exclude_defaults=True, warnings=False),
    }
    for key, value in values.items():
        _set_metadata(model, PREFIX + key, value)


def _set_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    model.metadata_props.add(key=key, value=value)
