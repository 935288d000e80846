"""Damaged models given to `reuse-compile`: refused with a sentence, or compiled to what computes the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser
from typer.testing import CliRunner

import reuse_compiler
from reuse_compiler.cli.compile import app
from tools.fuzz.convolutions import Array, Rng, assert_near, pick
from tools.fuzz.corruption import INTEGERS, NAMES, REALS, corrupt_file, corrupt_message

MODELS = {
    "chain": """<ir_version: 9, opset_import: ["": 17]>
        chain (float[N, 3, H, W] x) => (float[N, 4] y) {
            [conv1] c = Conv <pads = [1, 1, 1, 1]> (x, w3, b8)
            n = BatchNormalization (c, b8, b8, b8, v8)
            r = Relu (n)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            [conv2] d = Conv <group = 2, auto_pad = "SAME_UPPER", strides = [1, 2]> (p, w2)
            q = GlobalAveragePool (d)
            y = Flatten (q)
        }""",
    "branches": """<ir_version: 9, opset_import: ["": 17]>
        branches (float[1, 8, 9, 7] x) => (float[1, 8, S, T] y, float[M] z) {
            z = ReduceMax <keepdims = 0> (x)
            zero = Constant <value = float {0.0}> ()
            condition = Greater (z, zero)
            y = If (condition) <
                then_branch = positive () => (float[1, 8, A, B] t) {
                    weights = Identity (w8)
                    [inner] t = Conv <pads = [1, 1, 1, 1]> (x, weights, b8)
                },
                else_branch = negative () => (float[1, 8, C, D] e) { e = Neg (x) }>
        }""",
    "functions": """<ir_version: 9, opset_import: ["": 17, "local": 1]>
        outer (float[2, 8, 6, 6] x) => (float[2, 8, 6, 6] y) {
            [first] t = local.block (x, w8)
            [second] y = local.block (t, w8)
        }
        <domain: "local", opset_import: ["": 17]>
        block (a, w) => (b) {
            [conv] c = Conv <pads = [1, 1, 1, 1]> (a, w)
            b = LeakyRelu <alpha = 0.1> (c)
        }""",
    "one dimension": """<ir_version: 9, opset_import: ["": 17]>
        sequence (float[N, 8, T] x) => (float[N, 8, U] y) {
            [conv1] c = Conv <dilations = [2], strides = [2], pads = [0, 2]> (x, s8)
            y = Clip (c, low, high)
        }""",
}
"""Small models of several kinds; the names of their weights say what they are."""
WEIGHTS: dict[str, tuple[int, ...]] = {
    "w3": (8, 3, 3, 3), "w2": (4, 4, 2, 3), "w8": (8, 8, 3, 3), "s8": (8, 8, 3), "b8": (8,), "v8": (8,), "low": (),
    "high": (),
}  # fmt: skip
FLAGS: tuple[list[str], ...] = (
    [], ["--no-verify"], ["--no-verify"], ["--dry-run"], ["--lowering", "staged"], ["--layers", "conv"],
    ["--layout", "patch", "-L", "3"], ["--shape", "x:2,3,12,10"],
)  # fmt: skip
VALID_FLAGS = 5
"""How many of them fit all models."""
ODD_FLAGS = ("-L", "-H", "--capacity", "--seed", "--shape", "--layers", "--layout", "--report", "-o")


def check(rng: Rng, folder: Path) -> None:
    """Draws a model, damages its fields, its bytes or its external data, compiles it and compares."""
    path, output = folder / "model.onnx", folder / "model.reuse.onnx"
    name, external = pick(rng, list(MODELS)), rng.random() < 0.25
    model = draw_model(rng, name)
    way = rng.random()
    if 0.05 < way < 0.75:
        for _ in range(int(rng.integers(1, 4))):
            corrupt_message(rng, model)
    if external:
        for tensor in model.graph.initializer:
            if tensor.HasField("raw_data"):
                onnx.external_data_helper.set_external_data(tensor, "model.bin")
        onnx.external_data_helper.write_external_data_tensors(model, str(folder))
    path.write_bytes(model.SerializeToString())
    if way > 0.75:
        damaged = folder / "model.bin" if external and rng.random() < 0.3 else path
        corrupt_file(rng, damaged)
    flags = list(pick(rng, FLAGS))
    if rng.random() < 0.1:
        flags = [pick(rng, ODD_FLAGS), str(pick(rng, INTEGERS + REALS + NAMES))]
    code = run_command(app, [str(path), "--family", "exact", "--force", *flags])
    assert way > 0.05 or code == 0 or flags not in FLAGS[:VALID_FLAGS], "a valid model is refused"
    if output.exists():
        _compare(rng, path, output)


def draw_model(rng: Rng, name: str) -> onnx.ModelProto:
    """Returns one of the models with random weights."""
    model: onnx.ModelProto = parser.parse_model(MODELS[name])
    for weight, shape in WEIGHTS.items():
        if re.search(rf"\b{weight}\b", MODELS[name]):
            values = rng.standard_normal(shape).astype(np.float32)
            values = np.abs(values) if weight in ("v8", "high") else -np.abs(values) if weight == "low" else values
            model.graph.initializer.append(numpy_helper.from_array(values, weight))
    return model


def run_command(command: Any, arguments: list[str]) -> int:
    """Runs a command in this process; fails unless it ends as promised, with its result or a sentence of its own."""
    result = CliRunner().invoke(command, [*arguments, "--log-level", "debug"])
    print(result.output)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in range(4), f"the exit code is {result.exit_code}"
    *_, last = [line for line in result.stderr.splitlines() if line.strip()] or [""]
    assert result.exit_code in (0, 3) or last.startswith("error: "), f"exit code {result.exit_code} without a sentence"
    assert "this is a defect" not in result.stderr, last
    return result.exit_code


def _compare(rng: Rng, original: Path, compiled: Path) -> None:
    """Compares both models on random inputs, if onnxruntime runs the original."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(original, options, providers=["CPUExecutionProvider"])
        feed = {given.name: _input(rng, given) for given in session.get_inputs()}
        expected = session.run(None, feed)
    except Exception:
        return
    actual = reuse_compiler.session(compiled).run(None, feed)
    for index, (value, wanted) in enumerate(zip(actual, expected, strict=True)):
        if wanted.dtype.kind != "f" or not np.isfinite(wanted).all():
            continue
        allowed = 1e-3 * float(np.abs(wanted).max(initial=0)) + 1e-5
        assert_near(value, wanted, allowed, f"output {index} of the compiled model")


def _input(rng: Rng, given: Any) -> Array:
    """Returns a random input; sizes that the model leaves open are small."""
    shape = [size if isinstance(size, int) else int(rng.integers(4, 12)) for size in given.shape]
    assert np.prod(shape, dtype=float) < 1e6
    return rng.standard_normal(shape).astype(np.float32)
