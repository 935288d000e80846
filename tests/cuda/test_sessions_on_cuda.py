"""Sessions on a GPU: CUDA graphs, several threads at once, statistics, errors, the Pool operator."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import reuse_compiler
from reuse_compiler.reuse.geometry import ConvSpec
from tests.cuda.running import DeviceRun, cuda_session, run_cuda
from tests.custom_ops.cases import Case
from tests.running import run_kernels

GEOMETRY = ConvSpec(4, 32, 28, 30, 70, (3, 3), (1, 1), (1, 1, 1, 1))
CASE = Case(GEOMETRY, "channel", 16, "learned", 8, seed=5)
OUTPUT = (4, 70, 28, 30)


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("family", ["sign", "learned", "exact"])
def test_a_captured_graph_follows_its_input(family: str, lowering: str) -> None:
    case = replace(CASE, family=family)
    model = case.model(lowering, dynamic=False)
    run = DeviceRun(cuda_session(model, cuda_graph=True), case.data()[0], OUTPUT)
    for seed in range(6):
        x = replace(case, seed=seed, distinct=seed % 3 * 40).data()[0]
        np.testing.assert_array_equal(run(x), run_cuda(model, x), err_msg=f"seed {seed}")


def test_replays_of_a_graph_are_counted() -> None:
    session = cuda_session(CASE.model("fused", dynamic=False), cuda_graph=True)
    run = DeviceRun(session, CASE.data()[0], OUTPUT)
    run()
    reuse_compiler.reset_statistics(session)
    for _ in range(7):
        run()
    node = reuse_compiler.statistics(session)[0]
    assert node.runs == 7 and node.rows == 7 * GEOMETRY.rows
    assert 0 < node.clusters <= 7 * 2 * 2**8


def test_statistics_are_those_of_the_cpu() -> None:
    counted = []
    x = CASE.data()[0]
    for session in (cuda_session(CASE.model("fused")), reuse_compiler.session(CASE.model("fused").SerializeToString())):
        for _ in range(3):
            session.run(None, {"X": x})
        node = reuse_compiler.statistics(session)[0]
        counted.append((node.runs, node.blocks, node.rows, node.vectors, node.clusters, node.guarded))
    assert counted[0] == counted[1]


def test_stages_are_timed_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_CUDA_STAGES", "1")
    session = cuda_session(CASE.model("fused"))
    session.run(None, {"X": CASE.data()[0]})
    seconds = reuse_compiler.statistics(session)[0].seconds
    assert min(seconds.hash, seconds.cluster, seconds.gemm, seconds.gather) > 0


def test_threads_that_run_one_session_do_not_disturb_each_other() -> None:
    """Each run has a stream of its own; scratch memory must not pass from one that is not done to another."""
    session = cuda_session(CASE.model("fused"))
    inputs = [replace(CASE, seed=seed).data()[0] for seed in range(4)]
    expected = [session.run(None, {"X": x})[0] for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            results = pool.map(lambda index: session.run(None, {"X": inputs[index % 4]})[0], range(16))
            for index, y in enumerate(results):
                np.testing.assert_array_equal(y, expected[index % 4])


def test_sizes_may_change_from_run_to_run() -> None:
    session = cuda_session(CASE.model("fused"))
    for batch, height, width in [(1, 5, 7), (6, 40, 33), (2, 9, 9), (6, 40, 33)]:
        case = replace(CASE, spec=ConvSpec(batch, 32, height, width, 70, (3, 3), (1, 1), (1, 1, 1, 1)))
        x = np.random.default_rng(1).standard_normal((batch, 32, height, width)).astype(np.float32)
        expected = run_kernels(CASE.model("fused"), x)
        actual = session.run(None, {"X": x})[0]
        assert actual.shape == (batch, 70, height, width) and case.spec.rows == batch * height * width
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


def test_weights_need_not_be_constant() -> None:
    model = CASE.model("fused")
    x, w, _ = CASE.data()
    expected = run_cuda(model, x)
    kept = [t for t in model.graph.initializer if t.name != "W"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, w.shape))
    np.testing.assert_array_equal(cuda_session(model).run(None, {"X": x, "W": w})[0], expected)


def test_split_coordinates_outside_the_vector_are_refused() -> None:
    model = CASE.model("fused")
    tensor = next(t for t in model.graph.initializer if t.name == "coordinates")
    values = numpy_helper.to_array(tensor).copy()
    values[-1, -1] = 16
    tensor.CopyFrom(numpy_helper.from_array(values, "coordinates"))
    with pytest.raises(Exception, match="coordinates hold 16, must be 0 to 15"):
        cuda_session(model)


def test_few_rows_of_memory_guard_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    case = replace(CASE, family="exact")
    x = case.data()[0]
    expected = run_cuda(case.model("fused"), x)
    monkeypatch.setenv("REUSE_CUDA_TABLE_MIB", "1")
    session = cuda_session(case.model("fused"))
    actual = session.run(None, {"X": x})[0]
    assert reuse_compiler.statistics(session)[0].guarded > 0
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize(
    "attributes", [{}, {"pads": [1, 0, 1, 1], "strides": [2, 1]}, {"ceil_mode": 1, "strides": [3, 2]}]
)
def test_pool_equals_the_cpus(mode: str, attributes: dict[str, Any]) -> None:
    node = helper.make_node(
        "Pool", ["X"], ["Y"], "pool", domain="ai.reuse", mode=mode, kernel_shape=[3, 2], **attributes
    )
    x_info = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", "H", "W", 20])
    y_info = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "pool", [x_info], [y_info])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.reuse", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    x = np.random.default_rng(0).standard_normal((2, 13, 11, 20)).astype(np.float32)
    np.testing.assert_allclose(run_cuda(model, x), run_kernels(model, x), rtol=1e-6, atol=1e-6)
