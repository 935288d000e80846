"""What the operators count, per node and session."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import reuse_compiler
from reuse_compiler.runtime import remaining_ratios
from reuse_compiler.runtime.library import load_library
from reuse_compiler.runtime.sessions import tag_of
from reuse_compiler.runtime.statistics import NodeStatistics, StageSeconds

Compiled = Callable[..., Path]


def test_counts_of_every_layer(compiled: Compiled, images: np.ndarray) -> None:
    session = reuse_compiler.session(compiled(family="sign", num_hashes=6))
    assert {node.runs for node in reuse_compiler.statistics(session)} <= {0}
    for _ in range(3):
        session.run(None, {"x": images})
    nodes = {node.node: node for node in reuse_compiler.statistics(session)}
    assert set(nodes) == {"conv1", "conv2", "conv3"}
    for node in nodes.values():
        assert (node.op, node.runs, node.blocks, node.guarded) == ("ReuseConv", 3, 1, 0)
        assert node.remaining_ratio is not None and 0 < node.remaining_ratio < 1
        assert node.clusters % 3 == 0 and node.clusters // 3 <= 2**6
        assert min(node.seconds.hash, node.seconds.gemm, node.seconds.gather) > 0 and node.scratch_bytes > 0
    assert nodes["conv1"].rows == nodes["conv1"].vectors == 3 * 6 * 12 * 12
    assert nodes["conv2"].rows == 3 * 6 * 6 * 6
    assert nodes["conv2"].vectors == 3 * 6 * 12 * 12  # channel layout: vectors are pixels, rows are output pixels


def test_the_cpu_says_nothing_of_tf32(compiled: Compiled, images: np.ndarray) -> None:
    session = reuse_compiler.session(compiled())
    session.run(None, {"x": images})
    tag = tag_of(session.get_session_options()).encode()
    buffer = ctypes.create_string_buffer(1 << 16)
    load_library().reuse_statistics_json(tag, buffer, len(buffer))
    assert buffer.value.count(b'"tf32":null') == len(reuse_compiler.statistics(session)) == 3
    assert {node.tf32 for node in reuse_compiler.statistics(session)} == {None}


@pytest.mark.parametrize(("text", "tf32"), [("true", True), ("false", False), ("null", None), (None, None)])
def test_tf32_has_three_values(text: str | None, tf32: bool | None) -> None:
    counts = "".join(f'"{name}":1,' for name in ("runs", "blocks", "rows", "vectors", "clusters", "guarded"))
    field = f'"tf32":{text},' if text else ""  # a library of before does not have it
    json = f'{{"node":"a","op":"ReuseConv",{field}{counts}"seconds":{{}},"scratch_bytes":1}}'
    node = NodeStatistics.model_validate_json(json)
    assert node.tf32 is tf32 and node.seconds == StageSeconds()


def test_the_staged_form_counts_in_its_own_nodes(compiled: Compiled, images: np.ndarray) -> None:
    fused, staged = (
        reuse_compiler.session(compiled(family="sign", num_hashes=6, lowering=name)) for name in ("fused", "staged")
    )
    for session in (fused, staged):
        session.run(None, {"x": images})
    nodes = {node.node: node for node in reuse_compiler.statistics(staged)}
    stages = ("Hash", "Cluster", "CentroidGemm", "Gather")
    assert {name: node.op for name, node in nodes.items()} == {
        f"conv{i}/{stage}": stage for i in (1, 2, 3) for stage in stages
    }
    for node in reuse_compiler.statistics(fused):
        assert nodes[f"{node.node}/Cluster"].remaining_ratio == pytest.approx(node.remaining_ratio)


def test_guarded_vectors_are_counted(compiled: Compiled, images: np.ndarray) -> None:
    session = reuse_compiler.session(compiled(family="exact", capacity=0.01))
    session.run(None, {"x": images + np.random.default_rng(0).standard_normal(images.shape).astype(np.float32)})
    guarded = {node.node: (node.guarded, node.vectors) for node in reuse_compiler.statistics(session)}
    count, vectors = guarded["conv1"]
    assert count == vectors - np.ceil(0.01 * vectors)


def test_reset_and_separate_sessions(compiled: Compiled, images: np.ndarray) -> None:
    first, second = (reuse_compiler.session(compiled()) for _ in range(2))
    first.run(None, {"x": images})
    assert {node.runs for node in reuse_compiler.statistics(second)} <= {0}
    assert {node.runs for node in reuse_compiler.statistics(first)} == {1}
    reuse_compiler.reset_statistics(first)
    assert all(node.runs == node.clusters == 0 for node in reuse_compiler.statistics(first))
    assert all(node.remaining_ratio is None for node in reuse_compiler.statistics(first))
    first.run(None, {"x": images})
    assert {node.runs for node in reuse_compiler.statistics(first)} == {1}


def test_sessions_from_the_same_options_share(compiled: Compiled, images: np.ndarray) -> None:
    options = onnxruntime.SessionOptions()
    sessions = [reuse_compiler.session(compiled(), sess_options=options) for _ in range(2)]
    for session in sessions:
        session.run(None, {"x": images})
    assert {node.runs for node in reuse_compiler.statistics(sessions[0])} == {2}


def test_sessions_made_by_hand_are_found_under_their_tag(compiled: Compiled, images: np.ndarray) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("ai.reuse.session", 'a "quoted" tag')
    options.register_custom_ops_library(reuse_compiler.library_path())
    session = onnxruntime.InferenceSession(compiled(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": images})
    assert {node.runs for node in reuse_compiler.statistics(session)} == {1}


def test_counts_are_forgotten_with_the_session(compiled: Compiled, images: np.ndarray) -> None:
    session = reuse_compiler.session(compiled())
    session.run(None, {"x": images})
    tag = tag_of(session.get_session_options()).encode()
    assert load_library().reuse_statistics_json(tag, None, 0) > len("[]") + 1
    del session
    gc.collect()
    assert load_library().reuse_statistics_json(tag, None, 0) == len("[]") + 1


def test_names_that_are_not_utf_8(compiled: Compiled, images: np.ndarray) -> None:
    content = (
        compiled()
        .read_bytes()
        .replace(b"conv1", b"con\xff1")
        .replace(b"conv2", b"con\xc32")
        .replace(b"conv3", b'c\n\\"3')
    )
    session = reuse_compiler.session(content)
    session.run(None, {"x": images})
    names = {node.node for node in reuse_compiler.statistics(session)}
    assert names == set(remaining_ratios(session)) == {"con\ufffd1", "con\ufffd2", 'c\n\\"3'}
