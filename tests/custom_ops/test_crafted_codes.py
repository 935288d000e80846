"""Vectors that are made to have one code: they cost one comparison each, and the result is that of the convolution."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pytest

from reuse_compiler.reference.operators import cluster_vectors, hash_vectors
from reuse_compiler.reuse.geometry import ConvSpec
from tests.comparison import assert_close
from tests.custom_ops import cuda_host
from tests.custom_ops.cases import Case
from tests.running import make_session, run_kernels, run_reference

LENGTH = 4
START, FACTOR, MASK = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 2**64 - 1  # of `mix`, docs/operators.md


def fold(state: int, key: int) -> int:
    state = (state ^ key) * FACTOR & MASK
    return state ^ state >> 29


def unfold(state: int) -> int:
    """Returns what `fold` made the state of, xor the key."""
    state ^= state >> 29 ^ state >> 58
    return state * pow(FACTOR, -1, 2**64) & MASK


def first_between(factor: int, modulus: int, low: int, high: int) -> int | None:
    """Returns the least x of at least 0 with low <= factor * x % modulus <= high, or None; as Euclid's algorithm."""
    if low == 0:
        return 0
    if factor == 0:
        return None
    if 2 * factor > modulus:
        return first_between(modulus - factor, modulus, modulus - high, modulus - low)
    least = -(-low // factor)
    if least * factor <= high:
        return least
    found = first_between(-modulus % factor, factor, low % factor, high % factor)
    return None if found is None else -(-(low + modulus * found) // factor)


def word_between(state: int, high_word: int) -> int | None:
    """Returns a key with which `fold` makes a state with that high word."""
    product_word = high_word ^ high_word >> 29  # what x ^ x >> 29 makes it of
    low = ((product_word << 32) - (state >> 32 << 32) * FACTOR) & MASK
    high = low + 2**32 - 1
    word = None if high > MASK else first_between(FACTOR, 2**64, low, high)
    return None if word is None or word >= 2**32 else word ^ state & 0xFFFFFFFF


@functools.cache
def colliding_vectors(count: int) -> npt.NDArray[np.float32]:
    """Returns different vectors [count, LENGTH] with the fingerprint of the first, none of them large."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal(LENGTH).astype(np.float32)
    target = START
    for key in first.view(np.uint32):
        target = fold(target, int(key))
    before_last = unfold(target)  # xor the last key, whose high word is 0
    found = [first]
    while len(found) < count:
        free = rng.standard_normal(LENGTH - 2).astype(np.float32).view(np.uint32)
        state = START
        for key in free:
            state = fold(state, int(key))
        word = word_between(state, before_last >> 32)
        if word is None:
            continue
        last = fold(state, word) ^ before_last
        assert last < 2**32
        vector = np.array([*free, word, last], np.uint32).view(np.float32)
        if np.isfinite(vector).all() and np.abs(vector).max() < 1e6:
            found.append(vector)
    return np.array(found)


def crafted_case(table: str = "float") -> tuple[Case, npt.NDArray[np.float32]]:
    """A convolution of 1x1 with 8 channels, two blocks: the first has 90 vectors of one code, twice in a row each."""
    case = Case(ConvSpec(1, 8, 12, 15, 5, (1, 1)), "channel", LENGTH, "exact", 1, table=table)
    x = case.data()[0]
    x[0, :LENGTH] = np.repeat(colliding_vectors(90), 2, axis=0).T.reshape(LENGTH, 12, 15)
    return case, x


def test_the_vectors_have_one_code() -> None:
    case, x = crafted_case()
    codes = hash_vectors(x, case.blocking, "exact", case.parameters())
    assert len(np.unique(codes[0])) == 1 and len(np.unique(codes[1])) == 180


def test_a_code_is_shared_by_what_equals_its_first_vector() -> None:
    case, x = crafted_case()
    codes = hash_vectors(x, case.blocking, "exact", case.parameters())
    clusters = cluster_vectors(x, codes, case.blocking, verify=True)
    assert clusters.ids[0].tolist() == [0, 0, *range(1, 179)] and clusters.guarded == 178


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_kernels_share_the_same(lowering: str, threads: int) -> None:
    case, x = crafted_case()
    model = case.model(lowering)
    y = run_kernels(model, x, threads)
    np.testing.assert_array_equal(y, run_kernels(model, x))
    assert_close(y, run_reference(model, x), what=lowering)
    assert_close(y, run_kernels(case.model("dense"), x), what="Conv")


def test_the_staged_kernel_numbers_as_the_reference_does() -> None:
    case, x = crafted_case()
    model = case.model("staged")
    del model.graph.output[:]
    model.graph.output.add().name = "ids"
    codes = hash_vectors(x, case.blocking, "exact", case.parameters())
    expected = cluster_vectors(x, codes, case.blocking, verify=True).ids
    for threads in (1, 4):
        np.testing.assert_array_equal(make_session(model, threads).run(None, {"X": x})[0], expected)


@pytest.mark.parametrize("path", cuda_host.PATHS)
@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_the_cuda_kernels_are_lossless_too(lowering: str, path: cuda_host.Path) -> None:
    case, x = crafted_case()
    dense = run_kernels(case.model("dense"), x)
    for order in cuda_host.ORDERS:
        assert_close(cuda_host.run(case, lowering, order=order, x=x, path=path), dense, what=order)  # type: ignore[arg-type]
