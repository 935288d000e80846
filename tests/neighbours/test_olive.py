"""Olive runs the workflow of docs/neighbours.md with our pass, and the result with our library."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import reuse_compiler
from tests.neighbours.recipes import SIZE, own_nodes, recipe
from tools.cpp_build import ROOT

pytestmark = pytest.mark.skipif(importlib.util.find_spec("olive") is None, reason="Olive (olive-ai) is not installed")


def test_the_workflow(folder: Path) -> None:
    # By the recipe's defaults, times on this machine decide about layers.
    workflow = recipe("Olive", "json").replace('"ReuseCompile"', '"ReuseCompile", "family": "exact", "force": true')
    Path("workflow.json").write_text(workflow, encoding="utf-8")
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": programs, "PYTHONPATH": str(ROOT), "OLIVE_DISABLE_TELEMETRY": "1"}
    subprocess.run(["bash", "-e", "-c", recipe("Olive", "sh")], env=environment, check=True)
    assert own_nodes(onnx.load("compiled/model/model.onnx")) == ["MaxPool", "ReuseConv", "ReuseConv", "ReuseConv"]
    assert "latency-avg" in Path("compiled/metrics.json").read_text(encoding="utf-8")


def test_sessions_have_the_library_and_olive_s_settings(folder: Path) -> None:
    from reuse_compiler.integrations.olive import ReuseModelHandler

    settings = {
        "session_options": {
            "intra_op_num_threads": 1,
            "execution_mode": 1,
            "graph_optimization_level": 0,
            "extra_session_config": {"session.disable_prepacking": "1"},
        },
        "execution_provider": "CPUExecutionProvider",
        "provider_options": [{}],
    }
    session = ReuseModelHandler(folder, "model.reuse.onnx").prepare_session(settings)
    session.run(None, {"x": np.zeros((1, 3, SIZE, SIZE), np.float32)})
    assert sorted(node.op for node in reuse_compiler.statistics(session)) == own_nodes(onnx.load("model.reuse.onnx"))
    options = session.get_session_options()
    assert (options.execution_mode.value, options.graph_optimization_level.value) == (1, 0)
    assert options.get_session_config_entry("session.disable_prepacking") == "1"
