"""A standalone check that an installed reuse-compiler works with the installed onnxruntime: `python smoke_test.py`.

Does what README begins with: compiles the file of a small network by the command, and runs the result in onnxruntime.
Then compiles the network with every family that needs no samples, fused and staged, runs it with dynamic shapes and
several threads, and compares the lossless family with the original; runs each without the library, too, which must
give what the original does; and looks whether the package brought what it needs beside its modules. Prints one line;
exits 1 on a failure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import reuse_compiler
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reports.page import TEMPLATES
from reuse_compiler.reuse import families

FAMILIES = [name for name, family in families.FAMILIES.items() if not family.needs_samples]
LOWERINGS = ("fused", "staged")


def network() -> onnx.ModelProto:
    """Returns two convolutions with activations, the second without a bias, on inputs of any size."""
    rng = np.random.default_rng(0)
    weights = {"w1": (24, 3, 3, 3), "b1": (24,), "w2": (40, 24, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["y"], "conv2", auto_pad="SAME_UPPER", strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "smoke",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def image() -> Any:
    """Returns two pictures of flat patches, so that pixels repeat, in a size that is no multiple of a tile's."""
    rng = np.random.default_rng(1)
    patches = rng.standard_normal((2, 3, 3, 5)).astype(np.float32)
    return np.ascontiguousarray(np.kron(patches, np.ones((1, 1, 6, 6), np.float32)))


def check(family: str, lowering: str, expected: Any) -> None:
    """Compiles and runs one variant; raises AssertionError if it does not do what it must."""
    options = CompileOptions.model_validate({"family": family, "lowering": lowering, "force": True})
    lowered = lower(network(), options)
    assert lowered.modified and all(layer.decision == "reuse" for layer in lowered.layers)
    results = []
    for threads in (1, 3):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = reuse_compiler.session(lowered.model.SerializeToString(), sess_options=settings)
        shape = session.get_outputs()[0].shape
        assert len(shape) == 4 and shape[1] == 40, f"onnxruntime inferred the output shape {shape}"
        results.append(session.run(None, {"x": image()})[0])
        clusters = [node for node in reuse_compiler.statistics(session) if node.clusters]
        assert len(clusters) == 2 and all(node.clusters < node.vectors for node in clusters), clusters
    assert results[0].shape == expected.shape and np.array_equal(results[0], results[1])
    if family == "exact":
        np.testing.assert_allclose(results[0], expected, rtol=1e-3, atol=1e-3)
    alone = onnxruntime.InferenceSession(lowered.model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(alone.run(None, {"x": image()})[0], expected, rtol=1e-4, atol=1e-4)


def check_command(expected: Any) -> None:
    """Compiles a file by the command and runs it in plain onnxruntime; raises AssertionError or CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(network(), Path(folder, "model.onnx"))
        command = Path(sys.executable).with_name("reuse-compile")
        # So small a network would stay as it is.
        arguments = ["model.onnx", "--shape", "x:2,3,18,30", "--family", "exact", "--force"]
        subprocess.run([command, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        result = str(Path(folder, "model.reuse.onnx"))
        assert any(node.domain == "ai.reuse" for node in onnx.load(result).graph.node)
        plain = onnxruntime.InferenceSession(result, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(plain.run(None, {"x": image()})[0], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            reuse_compiler.session(result).run(None, {"x": image()})[0], expected, rtol=1e-3, atol=1e-3
        )


def main() -> None:
    """Checks the command and all variants."""
    dense = onnxruntime.InferenceSession(network().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dense.run(None, {"x": image()})[0]
    check_command(expected)
    for family in FAMILIES:
        for lowering in LOWERINGS:
            check(family, lowering, expected)
    assert (TEMPLATES / "base.html").is_file(), "the package has no templates for the pages of reports"
    library = Path(reuse_compiler.library_path()).name
    print(f"onnxruntime {onnxruntime.__version__}: {len(FAMILIES) * len(LOWERINGS)} variants passed with {library}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    main()
