"""What tools make of a compiled model is what the table of docs/neighbours.md says, with functions and without."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import inliner, shape_inference, version_converter
from onnx.utils import extract_model
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxruntime.transformers import optimizer

import reuse_compiler
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.pipeline import lower
from reuse_compiler.runtime.library import library_path
from tests.neighbours.recipes import assert_computes, compiled, functions, network, own_nodes, run_recipe, section
from tests.passes.models import EXACT

Tool = Callable[[onnx.ModelProto], onnx.ModelProto | None]
HEADING = "What tools make of a compiled model"
WORDS = section(HEADING)
ROW = re.compile(
    r"^\| (.+?) \| (keeps all|loses functions|inlines them|ends .+?) \| (keeps all|ends .+?) \|$", re.MULTILINE
)
PACKAGES = ("onnxslim", "onnxsim", "onnxoptimizer", "onnxscript", "onnx_graphsurgeon", "onnx.")
"""Whose tools are called by their name; the others are onnxruntime's."""
SOURCE, RESULT = "source.onnx", "result.onnx"
QUANTISED = 0.05
"""Error of the quantiser's 8 bits in the last layer; others are as exact as float32."""


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
    "onnxsim": optimised_by("onnxsim", "simplify"),
    "onnxoptimizer": optimised_by("onnxoptimizer", "optimize"),
    "`quantize_dynamic`": lambda model: quantize_dynamic(SOURCE, RESULT),
    "`onnxruntime.transformers.optimizer` with `opt_level=0`": by_transformers(0),
    "`onnxruntime.tools.symbolic_shape_infer`": lambda model: SymbolicShapeInference.infer_shapes(
        model, auto_merge=True
    ),
    "`quant_pre_process` with `skip_optimization=True`": lambda model: quant_pre_process(
        SOURCE, RESULT, skip_optimization=True
    ),
    "`onnx.utils.extract_model`": lambda model: extract_model(SOURCE, RESULT, ["x"], ["y"]),
    "`onnx.version_converter`": lambda model: version_converter.convert_version(model, 21),
    "`optimized_model_filepath` of a session with our library": saved_by_a_session(True),
    "`onnx_graphsurgeon`": through_graphsurgeon,
    "OnnxSlim": optimised_by("onnxslim", "slim"),
    "`onnxscript.optimizer`": optimised_by("onnxscript.optimizer", "optimize"),
    "`onnx.inliner`": inliner.inline_local_functions,
    "`quant_pre_process`": lambda model: quant_pre_process(SOURCE, RESULT),
    "`onnxruntime.transformers.optimizer` with `opt_level=1`": by_transformers(1),
    "`optimized_model_filepath` of a session without our library": saved_by_a_session(False),
}
TABLE = {tool: tuple(words) for tool, *words in ROW.findall(WORDS)}


def as_seen(name: str) -> bool:
    """Tells whether the tool's package has the version that the page names: others may do better."""
    package = next((each for each in PACKAGES if each in name.lower()), "onnxruntime").rstrip(".")
    pytest.importorskip(package, reason=f"{package} is not installed")
    [seen] = re.findall(rf"\b{package} ([\d.]+\d)", WORDS.replace("\n", " "), re.IGNORECASE)
    return f"{version(package)}.".startswith(f"{seen}.")


def apply(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns what a tool makes of a model, in memory or from file to file."""
    onnx.save(model, SOURCE)
    made = TOOLS[name](model)
    return onnx.load(RESULT) if made is None else made


def tolerance(name: str) -> float:
    return QUANTISED if name == "`quantize_dynamic`" else 1e-4


def test_the_table_has_every_tool() -> None:
    assert list(TABLE) == list(TOOLS)


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "`quantize_dynamic`"])
def test_before_compiling(name: str, folder: Path) -> None:
    lowered = lower(apply(name, network()), EXACT).model
    assert own_nodes(lowered) == ["MaxPool", "ReuseConv", "ReuseConv", "ReuseConv"]
    assert_computes(lowered, network())


@pytest.mark.parametrize("name", TOOLS)
def test_with_functions(name: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = onnx.load("model.reuse.onnx")
    outcome = TABLE[name][0]
    if outcome.startswith("ends"):
        if not as_seen(name):
            pytest.skip("the page names another version, which ends with an error")
        with pytest.raises(RecursionError):
            apply(name, model)
        return
    changed = apply(name, onnx.load("model.reuse.onnx"))
    if as_seen(name):
        assert own_nodes(changed) == ([] if outcome == "inlines them" else own_nodes(model))
        assert (functions(changed) == functions(model)) == (outcome == "keeps all")
        reuse_compiler.session(changed.SerializeToString())
        assert ("nothing is reused" in caplog.text) == (outcome == "inlines them")
        if outcome == "loses functions":
            with pytest.raises(Fail, match="is not a registered function/op"):
                assert_computes(changed, network())
    if outcome == "loses functions":
        add_function_bodies(changed)
    assert_computes(changed, network(), rtol=tolerance(name))


@pytest.mark.parametrize("name", [name for name, (_, without) in TABLE.items() if without == "keeps all"])
def test_without_functions(name: str, folder: Path) -> None:
    model = onnx.load("model.reuse.onnx")
    run_recipe(HEADING, {"tool": lambda given: apply(name, given)})
    changed = onnx.load("changed.onnx")
    if as_seen(name):
        assert own_nodes(changed) == own_nodes(model) and functions(changed) == functions(model)
    assert_computes(changed, network(), rtol=tolerance(name))


def test_a_model_without_bodies_from_which_onnxslim_takes_inputs(folder: Path) -> None:
    pytest.importorskip("onnxslim", reason="onnxslim is not installed")
    model = compiled(network(), family="exact", force=True)
    changed = apply("OnnxSlim", compiled(network(), family="exact", force=True))
    assert own_nodes(changed) == own_nodes(model)
    add_function_bodies(changed)
    assert_computes(changed, network())
