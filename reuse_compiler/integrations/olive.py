"""The compiler as a pass of Microsoft's Olive, `ReuseCompile` (docs/neighbours.md, Olive).

Run as a program, this prints Olive's list of passes with ours in it, for `olive run --package-config`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnxruntime
from olive.common.config_utils import ParamCategory
from olive.hardware import AcceleratorSpec
from olive.hardware.accelerator import Device
from olive.model import ONNXModelHandler
from olive.model.config.registry import model_handler_registry
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam

from reuse_compiler.compiler import compile_file
from reuse_compiler.flags import flag_of
from reuse_compiler.options import CompileOptions
from reuse_compiler.runtime import session

MODULE = "reuse_compiler.integrations.olive"
"""This file, under which Olive finds the pass; as a program it has another name."""


@model_handler_registry("ReuseModel")
class ReuseModelHandler(ONNXModelHandler):
    """A compiled model, which Olive runs and measures with the operator library; an ONNXModel it would run without."""

    def prepare_session(
        self,
        inference_settings: dict[str, Any] | None = None,
        device: Device = Device.CPU,
        execution_providers: str | list[str] | None = None,
        rank: int | None = None,
    ) -> onnxruntime.InferenceSession:
        settings = self.merge_inference_settings(inference_settings, execution_providers)
        options = onnxruntime.SessionOptions()
        given = dict(settings.get("session_options") or {})
        for key, value in given.pop("extra_session_config", {}).items():
            options.add_session_config_entry(key, value)
        for name, value in given.items():
            setattr(options, name, type(getattr(options, name))(value))  # modes and levels are numbers in Olive's files
        providers: list[Any] = settings["execution_provider"] or ["CPUExecutionProvider"]
        if settings["provider_options"]:
            providers = list(zip(providers, settings["provider_options"], strict=True))
        return session(self.model_path, providers, options)


class ReuseCompile(Pass):
    """Compiles an ONNX model for deep reuse; its parameters are the options of `reuse-compile`."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        params = {
            name: PassConfigParam(
                type_=field.annotation,
                default_value=field.get_default(call_default_factory=True),
                category=ParamCategory.PATH if name == "config" else ParamCategory.NONE,
                description=flag_of(field).help,
            )
            for name, field in CompileOptions.model_fields.items()
        }
        inputs = "Inputs that layers are chosen and compared on."
        params["verify_data"] = PassConfigParam(type_=str, category=ParamCategory.PATH, description=inputs)
        params["threads"] = PassConfigParam(type_=int, default_value=1, description="Threads that models run with.")
        return params

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        values = config.model_dump()
        checking = {name: values.pop(name) for name in ("verify_data", "threads")}
        path = Path(resolve_onnx_path(output_model_path))
        compile_file(model.model_path, path, CompileOptions(**values), overwrite=True, **checking)
        # A folder, as the result may have external data beside it.
        return ReuseModelHandler(path.parent, path.name, model.inference_settings)


def package_config() -> dict[str, Any]:
    """Returns Olive's list of passes, which a package configuration replaces, with ours in it."""
    config: dict[str, Any] = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text(encoding="utf-8"))
    everywhere = {key: ["*"] for key in ("supported_providers", "supported_accelerators", "supported_precisions")}
    config["passes"][ReuseCompile.__name__] = {"module_path": f"{MODULE}.{ReuseCompile.__name__}", **everywhere}
    return config


if __name__ == "__main__":
    json.dump(package_config(), sys.stdout, indent=2)
