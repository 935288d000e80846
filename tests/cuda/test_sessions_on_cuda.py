"""Sessions on a GPU: CUDA graphs, several threads at once, statistics, errors, pooling."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import reuse_compiler
from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.runtime import Provider
from tests.cuda.running import DeviceRun, cuda_alone, cuda_session, run_cuda, without_fallback
from tests.custom_ops.cases import Case
from tests.running import fed, make_session, run_kernels
from tools.gpu_check.models import in_half

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


@pytest.mark.parametrize("keep_tables", [True, False])
@pytest.mark.parametrize("table", ["float", "int8"])
def test_a_captured_graph_of_a_static_layer_follows_its_input(table: str, keep_tables: bool) -> None:
    case = replace(CASE, scope="static", table=table, keep_tables=keep_tables)
    model = case.model("fused", dynamic=False)
    run = DeviceRun(cuda_session(model, cuda_graph=True), case.data()[0], OUTPUT)
    for seed in range(4):
        x = replace(case, seed=seed, spoiled=seed % 2 * 5).data()[0]
        np.testing.assert_array_equal(run(x), run_kernels(model, x), err_msg=f"seed {seed}")


def test_sessions_share_static_tables_and_count_for_themselves() -> None:
    """The tables outlive the session that made them, as long as another one has them."""
    case = replace(CASE, scope="static", spoiled=3)
    model, x = case.model("fused"), case.data()[0]
    sessions = [cuda_session(model) for _ in range(2)]
    expected = sessions[0].run(None, {"X": x})[0]
    del sessions[0]
    np.testing.assert_array_equal(sessions[0].run(None, {"X": x})[0], expected)
    node = reuse_compiler.statistics(sessions[0])[0]
    own = int((~np.isfinite(x).reshape(4, 2, 16, -1).all(axis=2)).sum())
    assert (node.runs, node.clusters, node.guarded, node.tf32) == (1, 2 * 2**8 + own, own, None)


@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_scope_session_is_refused_when_the_session_is_made(lowering: str) -> None:
    with pytest.raises(Exception, match="scope session has no CUDA kernel: give the node to the CPU provider"):
        cuda_session(replace(CASE, scope="session").model(lowering))


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
    assert node.blocks == 2 and node.remaining_ratio is not None and node.tf32 is False


def test_statistics_are_those_of_the_cpu() -> None:
    counted = []
    x = CASE.data()[0]
    for session in (cuda_session(CASE.model("fused")), reuse_compiler.session(CASE.model("fused").SerializeToString())):
        for _ in range(3):
            session.run(None, {"X": x})
        node = reuse_compiler.statistics(session)[0]
        counted.append((node.runs, node.blocks, node.rows, node.vectors, node.clusters, node.guarded))
    assert counted[0] == counted[1]


@pytest.mark.parametrize("by", ["environment", "entry"])
def test_stages_are_timed_when_asked(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    options = without_fallback()
    if by == "entry":
        options.add_session_config_entry("ai.reuse.stages", "1")
    else:
        monkeypatch.setenv("REUSE_CUDA_STAGES", "1")
    session = reuse_compiler.session(CASE.model("fused").SerializeToString(), cuda_alone(), options)
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


def test_two_threads_on_one_session_overlap_and_are_counted() -> None:
    """Both enqueue at the same time, each on its own stream; counts of one run are as good as those of the other."""
    session = cuda_session(CASE.model("fused"))
    inputs = [replace(CASE, seed=seed).data()[0] for seed in range(2)]
    expected = [session.run(None, {"X": x})[0] for x in inputs]
    once = reuse_compiler.statistics(session)[0]
    reuse_compiler.reset_statistics(session)
    start = threading.Barrier(2)

    def run(index: int) -> None:
        start.wait()
        for _ in range(40):
            np.testing.assert_array_equal(session.run(None, {"X": inputs[index]})[0], expected[index])
            reuse_compiler.statistics(session)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    node = reuse_compiler.statistics(session)[0]
    assert (node.runs, node.rows, node.clusters) == (80, 40 * once.rows, 40 * once.clusters)


def test_statistics_are_read_while_another_thread_captures_and_replays() -> None:
    """A capture of onnxruntime is spoilt by whatever waits for the device, in any thread."""
    model = CASE.model("fused", dynamic=False)
    x = CASE.data()[0]
    expected = run_cuda(model, x)
    sessions = [cuda_session(model, cuda_graph=True) for _ in range(5)]
    other = cuda_session(model)
    other.run(None, {"X": x})
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for session in (*sessions, other):
                assert len(reuse_compiler.statistics(session)) == 1

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for session in sessions:
                run = DeviceRun(session, x, OUTPUT)
                for _ in range(12):
                    np.testing.assert_array_equal(run(), expected)
        finally:
            done.set()
        for reader in readers:
            reader.result()
    once = reuse_compiler.statistics(other)[0]
    for session in sessions:
        node = reuse_compiler.statistics(session)[0]
        assert node.runs >= 12  # onnxruntime runs some more before it captures
        assert (node.rows, node.clusters) == (node.runs * once.rows, node.runs * once.clusters)


def _driver() -> ctypes.CDLL:
    """Returns the driver, by which a thread's current device can be seen from outside of the library."""
    driver = ctypes.CDLL("libcuda.so.1")
    assert driver.cuInit(0) == 0
    return driver


def _make_current(driver: ctypes.CDLL, device: int) -> None:
    context = ctypes.c_void_p()
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert driver.cuCtxSetCurrent(context) == 0


def _current(driver: ctypes.CDLL) -> int:
    device = ctypes.c_int(-1)
    assert driver.cuCtxGetDevice(ctypes.byref(device)) == 0
    return device.value


@pytest.mark.parametrize(("own", "callers"), [(0, 0), (0, 1), (1, 0)])
def test_statistics_are_those_of_the_session_s_device_and_the_caller_keeps_its_own(own: int, callers: int) -> None:
    driver = _driver()
    count = ctypes.c_int()
    assert driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    if count.value <= max(own, callers):
        pytest.skip(f"{count.value} device is here, {max(own, callers) + 1} are needed")
    providers = [(name, {**options, "device_id": str(own)}) for name, options in cuda_alone()]
    model = CASE.model("fused")
    session = reuse_compiler.session(model.SerializeToString(), providers, without_fallback())
    x = CASE.data()[0]
    session.run(None, {"X": x})

    def read() -> tuple[int, int, int]:
        _make_current(driver, callers)
        node = reuse_compiler.statistics(session)[0]
        reuse_compiler.reset_statistics(session)
        return node.runs, node.clusters, _current(driver)

    with ThreadPoolExecutor(1) as pool:
        runs, clusters, current = pool.submit(read).result()
    assert runs == 1 and clusters > 0 and current == callers
    np.testing.assert_array_equal(session.run(None, {"X": x})[0], run_cuda(model, x))


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("tf32", [False, True])
def test_statistics_tell_of_tf32(tf32: bool, lowering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = CASE.model(lowering), CASE.data()[0]
    with_products = {"ReuseConv", "CentroidGemm"}

    def told() -> dict[bool, set[bool | None]]:
        session = cuda_session(model, tf32=tf32)
        assert {node.tf32 for node in reuse_compiler.statistics(session)} == {None}
        session.run(None, {"X": x})
        nodes = reuse_compiler.statistics(session)
        return {kind: {n.tf32 for n in nodes if (n.op in with_products) is kind} for kind in (True, False)}

    others = {None} if lowering == "staged" else set()
    assert told() == {True: {tf32}, False: others}
    monkeypatch.setenv("REUSE_CUDA_TF32", str(int(not tf32)))
    assert told() == {True: {not tf32}, False: others}


def test_products_in_float16_have_no_tf32() -> None:
    session = cuda_session(in_half(CASE.model("fused")), tf32=True)
    session.run(None, {"X": CASE.data()[0].astype(np.float16)})
    assert reuse_compiler.statistics(session)[0].tf32 is None


@pytest.mark.parametrize(
    ("name", "value"), [("REUSE_CUDA_TF32", "on"), ("REUSE_CUDA_STAGES", "yes"), ("REUSE_CUDA_TABLE_MIB", "0")]
)
def test_settings_that_mean_nothing_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match=f"{name} in the environment is '{value}'"):
        cuda_session(CASE.model("fused"))


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
    x, w, _ = CASE.data()
    expected = run_cuda(CASE.model("fused"), x)
    model = fed(CASE.model("fused"), "W")
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


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes", [{}, {"pads": [1, 0, 1, 1], "strides": [2, 1]}, {"ceil_mode": 1, "strides": [3, 2]}]
)
def test_pool_equals_the_cpus(op: str, attributes: dict[str, Any]) -> None:
    node = helper.make_node(op, ["X"], ["Y"], "pool", domain="ai.reuse", kernel_shape=[3, 2], **attributes)
    x_info = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", "H", "W", 20])
    y_info = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "pool", [x_info], [y_info])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.reuse", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    x = np.random.default_rng(0).standard_normal((2, 13, 11, 20)).astype(np.float32)
    np.testing.assert_allclose(run_cuda(model, x), run_kernels(model, x), rtol=1e-6, atol=1e-6)


def test_hold_runs_on_the_cpu_of_a_session_with_cuda() -> None:
    nodes = [
        helper.make_node("Hold", ["X"], ["held"], domain="ai.reuse", tolerances=[9.0], axis=3),
        helper.make_node("MaxPool", ["held"], ["Y"], "pool", domain="ai.reuse", kernel_shape=[1, 1]),
    ]
    x_info = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", "H", "W", 20])
    y_info = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.reuse", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x_info], [y_info]), opset_imports=opsets, ir_version=9)
    session = reuse_compiler.session(model.SerializeToString(), Provider("cuda").for_onnxruntime())
    x = np.random.default_rng(0).standard_normal((2, 13, 11, 20)).astype(np.float32)
    for run in (x, -x):
        np.testing.assert_array_equal(session.run(None, {"X": run})[0], x)


def test_redundancy_runs_on_the_cpu_of_a_session_with_cuda() -> None:
    nodes = [
        helper.make_node("MaxPool", ["X"], ["pooled"], "pool", domain="ai.reuse", kernel_shape=[2, 2]),
        helper.make_node("Redundancy", ["pooled"], ["enough", "shares"], domain="ai.reuse", windows=[3], gains=[1.0]),
    ]
    x_info = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", "H", "W", 20])
    outputs = [onnx.ValueInfoProto(name=name) for name in ("enough", "shares")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.reuse", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x_info], outputs), opset_imports=opsets, ir_version=9)
    x = np.random.default_rng(0).integers(0, 2, (2, 13, 11, 20)).astype(np.float32)
    x[:, :6] = 1
    session = reuse_compiler.session(model.SerializeToString(), Provider("cuda").for_onnxruntime())
    enough, shares = session.run(None, {"X": x})
    expected, expected_shares = make_session(model).run(None, {"X": x})
    assert enough == expected and 0 < shares[0] == expected_shares[0]
