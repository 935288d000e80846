"""What tools make of a compiled model is what the table of docs/neighbours.md says, and its remedy helps."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import inliner, shape_inference, version_converter
from onnx.utils import extract_model
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxruntime.transformers import optimizer

import reuse_compiler
from reuse_compiler.runtime.library import library_path
from tests.comparison import assert_close
from tests.neighbours.recipes import images, outputs, own_nodes, run_recipe, section

Tool = Callable[[onnx.ModelProto], onnx.ModelProto | None]
SOURCE, RESULT = "model.reuse.onnx", "changed.onnx"
PACKAGES = ("onnxslim", "onnxsim", "onnxoptimizer", "onnxscript", "onnx_graphsurgeon", "onnx.")
"""Whose tools are called by their name; the others are onnxruntime's."""
ROW = re.compile(r"^\| (.+?) \| (stay|inlined) \| (stay|gone|broken) \|$", re.MULTILINE)
HEADING = "What tools make of a compiled model"
WORDS = section(HEADING)
QUANTISED = 0.2
"""Error of the quantiser's 8 bits, relative to the largest output; others are as exact as float32."""


def through_graphsurgeon(model: onnx.ModelProto) -> onnx.ModelProto:
    surgeon = importlib.import_module("onnx_graphsurgeon")
    return surgeon.export_onnx(surgeon.import_onnx(model).cleanup().toposort())  # type: ignore[no-any-return]


def optimised_by(package: str, function: str) -> Tool:
    """Returns the tool of a package that not everybody has."""

    def tool(model: onnx.ModelProto) -> onnx.ModelProto:
        module = pytest.importorskip(package, reason=f"{package} is not installed")
        result: onnx.ModelProto | tuple[onnx.ModelProto, bool] = getattr(module, function)(model)
        return result[0] if isinstance(result, tuple) else result  # onnxsim tells, too, whether it has compared

    return tool


def saved_by_a_session(library: bool) -> Tool:
    def tool(model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = RESULT
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        if library:
            options.register_custom_ops_library(library_path())
        onnxruntime.InferenceSession(SOURCE, options, providers=["CPUExecutionProvider"])

    return tool


def by_transformers(level: int) -> Tool:
    return lambda model: optimizer.optimize_model(SOURCE, opt_level=level).model


TOOLS: dict[str, Tool] = {
    "`onnx.shape_inference`": lambda model: shape_inference.infer_shapes(model, strict_mode=True),
    "`onnx.utils.extract_model`": lambda model: extract_model(SOURCE, RESULT, ["x"], ["y"]),
    "`onnx_graphsurgeon`": through_graphsurgeon,
    "onnxsim": optimised_by("onnxsim", "simplify"),
    "onnxoptimizer": optimised_by("onnxoptimizer", "optimize"),
    "`onnxruntime.tools.symbolic_shape_infer`": lambda model: SymbolicShapeInference.infer_shapes(
        model, auto_merge=True
    ),
    "`quant_pre_process` with `skip_optimization=True`": lambda model: quant_pre_process(
        SOURCE, RESULT, skip_optimization=True
    ),
    "`quantize_dynamic`": lambda model: quantize_dynamic(SOURCE, RESULT),
    "`onnxruntime.transformers.optimizer` with `opt_level=0`": by_transformers(0),
    "`onnx.version_converter`": lambda model: version_converter.convert_version(model, 21),
    "`optimized_model_filepath` of a session with our library": saved_by_a_session(True),
    "OnnxSlim": optimised_by("onnxslim", "slim"),
    "`onnx.inliner`": inliner.inline_local_functions,
    "`onnxscript.optimizer`": optimised_by("onnxscript.optimizer", "optimize"),
    "`quant_pre_process`": lambda model: quant_pre_process(SOURCE, RESULT),
    "`onnxruntime.transformers.optimizer` with `opt_level=1`": by_transformers(1),
    "`optimized_model_filepath` of a session without our library": saved_by_a_session(False),
}
TABLE = {tool: tuple(words) for tool, *words in ROW.findall(WORDS)}


def test_the_table_has_every_tool() -> None:
    assert list(TABLE) == list(TOOLS)


def as_seen(name: str) -> bool:
    """Tells whether the tool's package has the version that the page names: others may do better."""
    package = next((each for each in PACKAGES if each in name.lower()), "onnxruntime").rstrip(".")
    [seen] = re.findall(rf"\b{package} ([\d.]+\d)", WORDS.replace("\n", " "), re.IGNORECASE)
    return f"{version(package)}.".startswith(f"{seen}.")


@pytest.mark.parametrize("name", TOOLS)
def test_tools(name: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    compiled, x = onnx.load(SOURCE), images()
    expected = outputs(onnx.load("model.onnx"), x, library=False)
    made = TOOLS[name](onnx.load(SOURCE))
    changed = onnx.load(RESULT) if made is None else made
    tolerances: dict[str, Any] = {"rtol": QUANTISED if name.startswith("`quantize_") else 1e-4}
    assert_close(outputs(changed, x, library=True), expected, **tolerances)

    operators, functions = TABLE[name]
    if as_seen(name):
        assert own_nodes(changed) == (own_nodes(compiled) if operators == "stay" else [])
        kept = {function.name for function in changed.functions if function.domain == "ai.reuse"}
        assert kept == (set() if functions == "gone" else {"MaxPool", "ReuseConv"})
        reuse_compiler.session(changed.SerializeToString())
        assert ("nothing is reused" in caplog.text) == (operators == "inlined")
        if operators == "stay" and functions != "stay":
            with pytest.raises((Fail, InvalidGraph), match=r"is not a registered function/op|Type 'tensor\(int32\)'"):
                outputs(changed, x, library=False)
    if functions != "stay":
        onnx.save(changed, RESULT)
        run_recipe(HEADING)
        changed = onnx.load(RESULT)
        assert_close(outputs(changed, x, library=True), expected, **tolerances)
    assert_close(outputs(changed, x, library=False), expected, **tolerances)
