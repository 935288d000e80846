"""A standalone check that an installed reuse-compiler works with the installed onnxruntime: `python smoke_test.py`.

Does what README begins with: compiles the file of a small network by the command, and runs the result in onnxruntime.
Then compiles the network with every family that needs no samples, fused and staged, runs it with dynamic shapes and
several threads, and compares the lossless family with the original; runs each without the library, too, which must
give what the original does; runs a choice between two branches, and a convolution of bytes; and looks whether the
package brought what it needs beside its modules. Prints one line; exits 1 on a failure.
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
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.pipeline import lower
from reuse_compiler.reports.page import TEMPLATES
from reuse_compiler.reuse import families

FAMILIES = [name for name, family in families.FAMILIES.items() if not family.needs_samples]
LOWERINGS = ("fused", "staged")


def network(channels: tuple[int, int, int] = (3, 24, 40)) -> onnx.ModelProto:
    """Returns two convolutions with activations, the second without a bias, on inputs of any size."""
    rng = np.random.default_rng(0)
    first, between, last = channels
    weights = {"w1": (between, first, 3, 3), "b1": (between,), "w2": (last, between, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["y"], "conv2", auto_pad="SAME_UPPER", strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "smoke",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", first, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def image(channels: int = 3, patch: int = 6) -> Any:
    """Returns two pictures of flat patches, so that pixels repeat, in a size that is no multiple of a tile's."""
    rng = np.random.default_rng(1)
    patches = rng.standard_normal((2, channels, 3, 5)).astype(np.float32)
    return np.ascontiguousarray(np.kron(patches, np.ones((1, 1, patch, patch), np.float32)))


def dense(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Opens a model in plain onnxruntime, without the operator library."""
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


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
    np.testing.assert_allclose(dense(lowered.model).run(None, {"x": image()})[0], expected, rtol=1e-4, atol=1e-4)


def check_command() -> None:
    """Compiles a file by the command, in two forms, and runs it in onnxruntime; raises what went wrong.

    Network and image are large enough for reuse to pay; those of the other checks would stay as they are. Nothing is
    measured, so that a busy machine decides alike.
    """
    wide, x = network((64, 128, 128)), {"x": image(64, patch=18)}
    for dim, size in zip(wide.graph.input[0].type.tensor_type.shape.dim, x["x"].shape, strict=True):
        dim.dim_value = size
    expected = dense(wide).run(None, x)[0]
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(wide, Path(folder, "model.onnx"))
        command = Path(sys.executable).with_name("reuse-compile")
        subprocess.run([command, "model.onnx", "--no-verify"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        result = onnx.load(str(Path(folder, "model.reuse.onnx")))
    assert any(opset.domain == "ai.reuse" for opset in result.opset_import)
    for session in (dense(result), reuse_compiler.session(result.SerializeToString())):
        np.testing.assert_allclose(session.run(None, x)[0], expected, rtol=1e-3, atol=1e-3)


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
    assert np.array_equal(chosen, -image()) and np.array_equal(dense(model).run(None, {"x": image()})[0], image())


def check_quantised() -> None:
    """Compiles a convolution of bytes, which must keep every bit with the library and without."""
    rng = np.random.default_rng(2)
    constants = {"xs": np.float32(0.1), "xz": np.uint8(128), "w": rng.integers(-63, 64, (8, 3, 3, 3), np.int8)}
    constants |= {"ws": rng.uniform(0.01, 0.02, 8).astype(np.float32), "wz": np.zeros(8, np.int8)}
    constants |= {"ys": np.float32(0.2), "yz": np.uint8(0), "b": rng.integers(-500, 500, 8, np.int32)}
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], "conv", pads=[1, 1, 1, 1])
    x, y = (helper.make_tensor_value_info(n, TensorProto.UINT8, ["N", c, "H", "W"]) for n, c in (("x", 3), ("y", 8)))
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph([node], "quantised", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    lowered = lower(model, CompileOptions(family="exact", force=True))
    operators = [each.op_type for each in lowered.model.graph.node]
    assert operators == ["Transpose", "QLinearReuseConv", "Transpose"], lowered.layers
    feed = {"x": np.clip(40 * image() + 128, 0, 255).astype(np.uint8)}
    expected = dense(model).run(None, feed)[0]
    for session in (dense(lowered.model), reuse_compiler.session(lowered.model.SerializeToString())):
        assert np.array_equal(session.run(None, feed)[0], expected)


def main() -> None:
    """Checks the command and all variants."""
    check_command()
    expected = dense(network()).run(None, {"x": image()})[0]
    for family in FAMILIES:
        for lowering in LOWERINGS:
            check(family, lowering, expected)
    check_choice()
    check_quantised()
    assert (TEMPLATES / "base.html").is_file(), "the package has no templates for the pages of reports"
    library = Path(reuse_compiler.library_path()).name
    print(f"onnxruntime {onnxruntime.__version__}: {len(FAMILIES) * len(LOWERINGS)} variants passed with {library}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    main()
