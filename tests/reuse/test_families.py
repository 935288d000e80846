"""Hash families against their definitions, computed another way."""

import numpy as np

from reuse_compiler.reuse.families import FAMILIES, HashParameters

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((50, 6)).astype(np.float32)


def test_sign_bits_are_sides_of_hyperplanes() -> None:
    parameters = FAMILIES["sign"].random_parameters(RNG, 1, 6, 64).block(0)
    codes = FAMILIES["sign"].codes(VECTORS, parameters, 6).view(np.uint64)
    assert parameters.projections is not None
    sides = VECTORS @ parameters.projections > 0
    for h in range(64):
        np.testing.assert_array_equal((codes >> np.uint64(h)) & np.uint64(1), sides[:, h])


def test_learned_codes_are_the_leaves_of_a_plain_walk() -> None:
    thresholds = RNG.standard_normal(7).astype(np.float32)
    coordinates = RNG.integers(0, 6, 7).astype(np.int32)
    codes = FAMILIES["learned"].codes(VECTORS, HashParameters(thresholds=thresholds, coordinates=coordinates), 6)
    for vector, code in zip(VECTORS, codes, strict=True):
        bits, node = "", 0
        for _ in range(3):
            right = vector[coordinates[node]] > thresholds[node]
            bits, node = bits + "01"[int(right)], 2 * node + (2 if right else 1)
        assert code == int(bits, 2)


def test_exact_tells_every_bit_apart_and_ignores_padding() -> None:
    exact = FAMILIES["exact"]
    changed = VECTORS.copy()
    changed[:, 2] = np.nextafter(changed[:, 2], np.float32(10))
    codes = exact.codes(VECTORS, HashParameters(), 6)
    assert not (codes == exact.codes(changed, HashParameters(), 6)).any()
    zero = np.zeros((1, 6), np.float32)
    assert exact.codes(zero, HashParameters(), 6) != exact.codes(-zero, HashParameters(), 6)
    changed = VECTORS.copy()
    changed[:, 4:] = 7
    np.testing.assert_array_equal(exact.codes(changed, HashParameters(), 4), exact.codes(VECTORS, HashParameters(), 4))
