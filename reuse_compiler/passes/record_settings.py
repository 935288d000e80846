"""Writes what was chosen into the model's metadata, so that a compiled model tells how it was made."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import onnx

from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.reuse.config import ReuseConfig

PREFIX = "reuse."


class RecordSettings(Pass):
    """Requires nothing. Ensures the metadata keys `reuse.version`, `reuse.layers` and `reuse.options`.

    `reuse.layers` maps layer names to settings as in a configuration file; `reuse.options` is what the user asked for.
    """

    def run(self, context: PassContext) -> bool:
        if not context.chosen:
            return False
        settings = {layer.name: layer.settings for layer in context.chosen if layer.settings is not None}
        layers = ReuseConfig(layers=settings).model_dump_json(by_alias=True, include={"layers"})
        config = context.options.config
        options = context.options.model_copy(update={"config": config and config.name})
        values = {
            "version": _version(),
            "layers": layers.removeprefix('{"layers":').removesuffix("}"),
            "options": options.model_dump_json(exclude_defaults=True, warnings=False),
        }
        for key, value in values.items():
            _set_metadata(context.model, PREFIX + key, value)
        return True

    def ensures(self, context: PassContext) -> str | None:
        present = {entry.key for entry in context.model.metadata_props}
        wanted = {PREFIX + key for key in ("version", "layers", "options")}
        return "metadata is missing" if context.chosen and not wanted <= present else None


def _version() -> str:
    try:
        return version("reuse-compiler")
    except PackageNotFoundError:  # run from the source tree
        return "0+source"


def _set_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    model.metadata_props.add(key=key, value=value)
