"""A standalone check that an installed reuse-compiler works with the installed onnxruntime: `python smoke_test.py`.

Compiles a small network with every family that needs no samples, fused and staged, runs it with dynamic shapes and
several threads, and compares the lossless family with the original; runs each without the library, too, which must
give what the original does; runs a choice between two branches; and looks whether the package brought what it needs
beside its modules. Prints one line; exits 1 on a failure.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import reuse_compiler
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.add_function_bodies import add_function_bodies
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


def check_choice() -> None:
    """Runs an If on whether the input repeats, with the library and without."""
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branches = [helper.make_graph([helper.make_node(op, ["x"], ["z"])], op, [], [output]) for op in ("Neg", "Identity")]
    nodes = [
        helper.make_node("Redundancy", ["x"], ["enough"], domain="ai.reuse", windows=[1], gains=[1.0], threshold=0.5),
        helper.make_node("If", ["enough"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.reuse", 1)]
    model = helper.make_model(helper.make_graph(nodes, "choice", [x], [y]), opset_imports=opsets, ir_version=8)
    add_function_bodies(model)
    chosen = reuse_compiler.session(model.SerializeToString()).run(None, {"x": image()})[0]
    alone = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(chosen, -image()) and np.array_equal(alone.run(None, {"x": image()})[0], image())


def main() -> None:
    """Checks all variants."""
    dense = onnxruntime.InferenceSession(network().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dense.run(None, {"x": image()})[0]
    for family in FAMILIES:
        for lowering in LOWERINGS:
            check(family, lowering, expected)
    check_choice()
    assert (TEMPLATES / "base.html").is_file(), "the package has no templates for the pages of reports"
    library = Path(reuse_compiler.library_path()).name
    print(f"onnxruntime {onnxruntime.__version__}: {len(FAMILIES) * len(LOWERINGS)} variants passed with {library}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    main()
