"""Attributes and tensors that make sense to no operator: a sentence or what is right, never the end of a process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import reuse_compiler
from tests.custom_ops.nodes import OPERATORS, Node, valid_node
from tests.running import make_session

CASES = 420


def run_in_a_process_of_its_own(first: int, last: int) -> None:
    command = [sys.executable, "-m", "tests.custom_ops.attack", str(first), str(last)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]


def test_changed_nodes_do_not_end_the_process() -> None:
    run_in_a_process_of_its_own(0, CASES)


def node_of(op: str, seed: int = 0) -> Node:
    return valid_node(np.random.default_rng(seed), op)


def run(node: Node) -> list[np.ndarray[Any, Any]]:
    result: list[np.ndarray[Any, Any]] = make_session(node.model()).run(None, node.feeds())
    return result


@pytest.mark.parametrize("value", [0, -1, -(2**63), 2**31, 2**32 + 1, 2**63 - 1])
@pytest.mark.parametrize("op", [op for op in OPERATORS if "group" in node_of(op).attributes])
def test_a_group_that_none_can_have_is_refused_with_the_node(op: str, value: int) -> None:
    # In a process of its own as long as it is not known to end well.
    node = node_of(op)
    node.attributes["group"] = value
    with pytest.raises(Exception, match=f"{op} 'node': group is {value}, must be at (least 1|most 1073741824)"):
        make_session(node.model())


@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 2**62, 2**63 - 1])
@pytest.mark.parametrize("name", ["kernel_shape", "strides", "pads"])
@pytest.mark.parametrize("op", ["Hash", "Cluster", "Gather", "ReuseConv", "MaxPool"])
def test_numbers_beyond_all_sizes_are_refused(op: str, name: str, value: int) -> None:
    node = node_of(op)
    node.attributes[name] = [*node.attributes[name][:-1], value]
    with pytest.raises(Exception, match=f"{op} 'node': {name} is {value}, must be at most 1073741824"):
        make_session(node.model())


@pytest.mark.parametrize("family", ["sign", "learned", "exact"])
@pytest.mark.parametrize("op", ["Hash", "ReuseConv"])
def test_a_negative_number_of_hashes_is_refused_whatever_is_constant(op: str, family: str) -> None:
    node = node_of(op)
    node.attributes |= {"family": family, "num_hashes": -3}
    node.fed = set(node.tensors)
    with pytest.raises(Exception, match=f"{op} 'node': family {family}: num_hashes is -3, must be"):
        make_session(node.model())


@pytest.mark.parametrize("name", ["projections", "thresholds", "coordinates", "bias"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("op", ["Hash", "ReuseConv"])
def test_parameters_are_of_the_right_shape_and_not_only_size(op: str, constant: bool, name: str) -> None:
    nodes = [node_of(op, seed) for seed in range(40)]
    node = next((n for n in nodes if n.tensors.get(name, np.zeros(0)).size), None)
    if node is None:
        assert (op, name) == ("Hash", "bias")
        return
    node.fed = {"X"} if constant else set(node.tensors)
    array = node.tensors[name]
    for wrong in (array[None], array.reshape(-1, 1), array.T if array.ndim > 1 else array[:, None]):
        node.tensors[name] = np.ascontiguousarray(wrong)
        with pytest.raises(Exception, match=f"{op} 'node': .* has (shape|[0-9]+ elements)"):
            run(node)


@pytest.mark.parametrize("count", [-1, 4, 2**31 - 1])
def test_counts_that_the_centroids_have_no_rows_for_are_refused(count: int) -> None:
    node = node_of("CentroidGemm")
    node.tensors["counts"][1] = count
    with pytest.raises(Exception, match=f"CentroidGemm 'node': counts hold {count}, but centroids have 3 rows"):
        run(node)


@pytest.mark.parametrize("layout", ["patch", "channel"])
def test_a_large_dilation_is_no_matter_of_the_weights(layout: str) -> None:
    x, w = np.ones((1, 4, 1, 3), np.float32), np.ones((2, 4, 2, 1), np.float32)
    attributes: dict[str, Any] = {"kernel_shape": [2, 1], "dilations": [2**30, 1], "pads": [2**29, 0, 2**29, 0]}
    attributes |= {"family": "exact", "verify": 1, "layout": layout, "sub_vector_length": 4}
    (y,) = run(Node("ReuseConv", attributes, {"X": x, "W": w}, {"X"}))
    np.testing.assert_array_equal(y, np.zeros((1, 2, 1, 3), np.float32))  # both taps are in the padding


@pytest.mark.parametrize("capacity", [1e-45, 1e-6])
def test_a_capacity_of_less_than_one_cluster_is_one(capacity: float) -> None:
    node = node_of("Cluster")
    node.attributes |= {"capacity": capacity, "scope": "batch", "verify": 0}
    node.tensors["codes"][:] = np.arange(node.tensors["codes"].shape[1]) % 2
    counts = run(node)[2]
    half = node.tensors["codes"].shape[1] // 2
    np.testing.assert_array_equal(counts, 1 + half)  # one is shared, the others are alone


@pytest.mark.parametrize("op", [op for op in OPERATORS if op != "Redundancy"])
def test_an_empty_batch_gives_an_empty_output(op: str) -> None:
    node = node_of(op)
    if op == "CentroidGemm":  # has no batch, but there may be no rows
        node.tensors["centroids"] = node.tensors["centroids"][:, :0]
        node.tensors["counts"][:] = 0
    elif op in ("Cluster", "Gather"):
        matrix = "codes" if op == "Cluster" else "ids"
        node.tensors[matrix] = node.tensors[matrix][:, :0]
    if "X" in node.tensors:
        node.tensors["X"] = node.tensors["X"][:0]
    assert run(node)[0].size == 0


def test_an_output_that_no_memory_holds_is_refused() -> None:
    node = node_of("MaxPool")
    node.attributes = {"kernel_shape": [2**30] * 2, "pads": [2**30 - 1] * 4}
    node.tensors["X"] = np.ones((2**4, 1, 1, 2**4), np.float32)
    with pytest.raises(Exception, match="MaxPool 'node': the output is too large for any memory"):
        run(node)


NAMES = ("a\0b", "tab\tand\nline", "\N{SNOWMAN}", "long" * 50_000, b"\xff\xfe", b"\xed\xa0\x80")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_statistics_and_messages_take_names_of_any_bytes(name: str | bytes) -> None:
    data = name if isinstance(name, bytes) else name.encode()
    placeholder = "@" * len(data)
    node = node_of("Hash")

    def model() -> bytes:
        own = node.model()
        own.graph.node[0].name = placeholder
        content: bytes = own.SerializeToString().replace(placeholder.encode(), data)
        return content

    session = reuse_compiler.session(model())
    session.run(None, node.feeds())
    (statistics,) = reuse_compiler.statistics(session)
    assert statistics.runs == 1 and statistics.node == data.decode("utf-8", "replace")
    node.attributes["sub_vector_length"] = 0
    with pytest.raises(Exception, match="': sub_vector_length is 0") as caught:
        reuse_compiler.session(model())
    assert len(str(caught.value)) < 1000
