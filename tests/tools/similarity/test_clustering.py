"""Every clustering does what its paper says, gives identical vectors one cluster, and keeps sets apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reuse_compiler.reuse.config import Metric, Scope
from tools.similarity.clustering import Clustering, HyperCube, KMeans, LocalitySensitiveHashing, kmeans
from tools.similarity.clustering.vectors import SUMMED_COLUMNS, Floats, VectorSets, vector_sets

METHODS: list[tuple[Clustering, float]] = [
    (KMeans(), 6),
    (KMeans(), 0.4),
    (HyperCube(dimensions=3), 4),
    (LocalitySensitiveHashing(), 7),
]


def random_vectors(count: int, length: int, seed: int = 0) -> Floats:
    return np.random.default_rng([seed, count, length]).standard_normal((count, length)).astype(np.float32)


def repeated(images: int, per_image: int, length: int, seed: int = 0) -> Floats:
    """Vectors of which many are identical, also across images."""
    rng = np.random.default_rng(seed)
    return random_vectors(max(2, per_image // 2), length, seed)[
        rng.integers(0, max(2, per_image // 2), images * per_image)
    ]


def sets_of(
    vectors: Floats, scope: Scope = "batch", metric: Metric = "euclidean", images: int = 1, block: int = 0
) -> VectorSets:
    return vector_sets(vectors, block, scope, metric, images)


def partition(ids: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[int]:
    """Numbers clusters by first appearance, so that two ways to name the same clusters compare equal."""
    first: dict[int, int] = {}
    return [first.setdefault(int(each), len(first)) for each in ids]


class TestVectorSets:
    def test_identical_vectors_of_a_set_have_one_representative(self) -> None:
        a, b = random_vectors(2, 5)
        sets = sets_of(np.stack([a, b, a, a, a, b]), scope="image", images=2)
        assert sets.representative.tolist() == [0, 1, 0, 3, 3, 5]
        assert sets.weights.tolist() == [[2, 1, 0], [2, 0, 1]]

    def test_both_zeros_are_one_number(self) -> None:
        sets = sets_of(np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32))
        assert sets.representative.tolist() == [0, 0]

    def test_angular_vectors_have_length_one_and_keep_their_norms(self) -> None:
        vectors = random_vectors(6, 4)
        vectors[3] = 0
        sets = sets_of(vectors, metric="angular")
        assert np.allclose(np.linalg.norm(sets.vectors[0], axis=1), [1, 1, 1, 0, 1, 1])
        assert np.allclose(sets.vectors[0] * sets.norms[:, None], vectors, atol=1e-6)

    def test_the_vectors_given_are_not_changed(self) -> None:
        vectors = random_vectors(6, 4)
        before = vectors.copy()
        sets_of(vectors, metric="angular")
        assert np.array_equal(vectors, before)

    def test_centroids_are_means(self) -> None:
        vectors = random_vectors(5, 3)
        clusters = sets_of(vectors).clusters(np.array([[7, -1, 7, 7, -1]]))
        assert clusters.count == 2 and partition(clusters.ids) == [0, 1, 0, 0, 1]
        assert np.allclose(clusters.centroids[clusters.ids[0]], vectors[[0, 2, 3]].mean(axis=0), atol=1e-6)
        assert np.allclose(clusters.centroids[clusters.ids[1]], vectors[[1, 4]].mean(axis=0), atol=1e-6)

    def test_long_vectors_are_summed_whole(self) -> None:
        vectors = random_vectors(20, 2 * SUMMED_COLUMNS + 3)
        ids = np.arange(20) % 3
        clusters = sets_of(vectors).clusters(ids[None])
        for each in range(3):
            assert np.allclose(clusters.centroids[clusters.ids[each]], vectors[ids == each].mean(axis=0), atol=1e-6)

    def test_angular_centroids_are_mean_directions_of_the_mean_length(self) -> None:
        vectors = np.array([[3, 0], [0, 1]], np.float32)
        clusters = sets_of(vectors, metric="angular").clusters(np.array([[0, 0]]))
        assert np.allclose(clusters.centroids, [[1.0, 1.0]])

    def test_repeated_vectors_count_in_centroids(self) -> None:
        vectors = np.array([[0, 0], [0, 0], [3, 6]], np.float32)
        clusters = sets_of(vectors).clusters(np.array([[5, 5, 5]]))
        assert np.allclose(clusters.centroids, [[1, 2]])


@pytest.mark.parametrize(("method", "effort"), METHODS, ids=lambda value: getattr(value, "name", str(value)))
class TestEveryMethod:
    @settings(deadline=None, max_examples=25)
    @given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 5), st.sampled_from(["image", "batch"]), st.integers())
    def test_identical_vectors_share_a_cluster(
        self, method: Clustering, effort: float, images: int, per_image: int, length: int, scope: Scope, seed: int
    ) -> None:
        vectors = repeated(images, per_image, length, abs(seed))
        sets = sets_of(vectors, scope=scope, images=images)
        clusters = sets.clusters(method.assign(sets, effort))
        assert np.array_equal(clusters.ids, clusters.ids[sets.representative])
        assert np.array_equal(np.unique(clusters.ids), np.arange(clusters.count))
        image = np.repeat(np.arange(images), per_image)
        same = (vectors[:, None] == vectors[None]).all(axis=2)
        if scope == "image":
            same &= image[:, None] == image[None]
            assert not ((clusters.ids[:, None] == clusters.ids[None]) & (image[:, None] != image[None])).any()
        assert (clusters.ids[:, None] == clusters.ids[None])[same].all()

    def test_angular_clusters_do_not_depend_on_length(self, method: Clustering, effort: float) -> None:
        vectors = random_vectors(60, 6)
        scales = 2.0 ** np.random.default_rng(1).integers(-8, 8, (60, 1)).astype(np.float32)
        expected, actual = (sets_of(each, metric="angular") for each in (vectors, vectors * scales.astype(np.float32)))
        assert np.array_equal(
            expected.clusters(method.assign(expected, effort)).ids, actual.clusters(method.assign(actual, effort)).ids
        )

    def test_the_result_is_the_same_every_time(self, method: Clustering, effort: float) -> None:
        sets = sets_of(random_vectors(80, 6), scope="image", images=4)
        assert np.array_equal(method.assign(sets, effort), method.assign(sets, effort))

    def test_images_alone_are_as_in_a_batch(self, method: Clustering, effort: float) -> None:
        vectors = random_vectors(40, 6)
        one = sets_of(vectors[:20])
        two = sets_of(vectors, scope="image", images=2)
        if not isinstance(method, KMeans):  # whose draws depend on how many sets there are
            ids = method.assign(two, effort)[0]
            assert partition(ids) == partition(method.assign(one, effort)[0])


class TestKMeans:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 5))
    def test_inertia_does_not_increase(self, count: int, size: int, seed: int) -> None:
        sets = sets_of(repeated(2, size, 4, seed), scope="image", images=2)
        inertias = [step.inertia for step in KMeans(seed, iterations=8).steps(sets, min(count, size))]
        for before, after in pairwise(inertias):
            assert after <= before * (1 + 1e-5) + 1e-5

    def test_inertia_is_the_weighted_sum_of_squared_distances(self) -> None:
        vectors = repeated(1, 50, 4)
        sets = sets_of(vectors)
        step = list(KMeans(iterations=20).steps(sets, 5))[-1]
        clusters = sets.clusters(step.ids)
        # After convergence the centres are the means of their clusters.
        expected = ((vectors - clusters.centroids[clusters.ids]) ** 2).sum()
        assert step.inertia == pytest.approx(float(expected), rel=1e-3)

    def test_as_many_clusters_as_distinct_vectors_lose_nothing(self) -> None:
        vectors = repeated(1, 40, 5)
        distinct = len(np.unique(vectors, axis=0))
        sets = sets_of(vectors)
        clusters = sets.clusters(KMeans().assign(sets, distinct))
        assert clusters.count == distinct < len(vectors)
        assert np.allclose(clusters.centroids[clusters.ids], vectors, atol=1e-6)

    def test_groups_far_apart_are_found(self) -> None:
        group = np.random.default_rng(3).integers(0, 12, 300)
        vectors = 100 * random_vectors(12, 8)[group] + random_vectors(300, 8)
        sets = sets_of(vectors)
        clusters = sets.clusters(KMeans(seed=1, iterations=10).assign(sets, 12))
        assert partition(clusters.ids) == partition(group)

    def test_no_more_clusters_than_asked_for(self) -> None:
        for count in (1, 2, 33, 64):
            sets = sets_of(random_vectors(200, 6), scope="image", images=2)
            assert count <= sets.clusters(KMeans().assign(sets, count)).count <= 2 * count

    def test_more_centres_than_rounds_are_drawn_without_repeats(self) -> None:
        count = 3 * kmeans.SEEDING_ROUNDS + 1
        sets = sets_of(random_vectors(count, 6))
        assert sets.clusters(KMeans(iterations=1).assign(sets, count)).count == count

    def test_chunks_do_not_change_the_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sets = sets_of(random_vectors(300, 6), scope="image", images=3)
        whole = KMeans().assign(sets, 7)
        for chunk in (1, 100, 1000):
            monkeypatch.setattr(kmeans, "CHUNK", chunk)
            assert np.array_equal(KMeans().assign(sets, 7), whole)

    def test_seed_and_block_decide_what_is_drawn(self) -> None:
        vectors = random_vectors(100, 4)
        ids = [
            partition(KMeans(seed, iterations=1).assign(sets_of(vectors, block=block), 10)[0])
            for seed, block in [(0, 0), (1, 0), (0, 1)]
        ]
        assert ids[0] != ids[1] and ids[0] != ids[2]

    def test_shares_and_counts(self) -> None:
        method = KMeans(max_clusters=50)
        assert [method.clusters_of(effort, 200) for effort in (0.1, 0.001, 1, 30, 500)] == [20, 1, 1, 30, 200]
        assert method.refusal(50, 200) is None
        assert method.refusal(0.5, 200) == "K-means with 100 clusters takes too long; at most 50 are looked for"


class TestHyperCube:
    def test_bins_are_those_of_the_paper(self) -> None:
        vectors = random_vectors(50, 5)
        sets = sets_of(vectors)
        bins = 4
        low, high = vectors.min(axis=0), vectors.max(axis=0)
        cells = [
            tuple(
                min(int(bins * (np.float64(x) - a) / (np.float64(b) - a)), bins - 1)
                for x, a, b in zip(v, low, high, strict=True)
            )
            for v in vectors
        ]
        numbers = {cell: index for index, cell in enumerate(dict.fromkeys(cells))}
        expected = [numbers[cell] for cell in cells]
        assert partition(HyperCube(dimensions=5).assign(sets, bins)[0]) == partition(np.array(expected))

    def test_the_dimensions_of_largest_variance_count(self) -> None:
        vectors = random_vectors(50, 5) * np.array([1, 9, 1, 5, 1], np.float32)
        ids = HyperCube(dimensions=2).assign(sets_of(vectors), 3)[0]
        only = HyperCube(dimensions=2).assign(sets_of(np.ascontiguousarray(vectors[:, [1, 3]])), 3)[0]
        assert partition(ids) == partition(only) and len(set(ids.tolist())) > 4

    def test_every_set_has_its_own_extent(self) -> None:
        vectors = np.array([[0.0], [1.0], [100.0], [300.0]], np.float32)
        sets = sets_of(vectors, scope="image", images=2)
        assert sets.clusters(HyperCube().assign(sets, 2)).count == 4
        assert sets_of(vectors).clusters(HyperCube().assign(sets_of(vectors), 2)).count == 2

    def test_constant_dimensions_and_many_bins_work(self) -> None:
        vectors = random_vectors(30, 40)
        vectors[:, 7] = 2
        sets = sets_of(vectors)
        assert sets.clusters(HyperCube(dimensions=40).assign(sets, 1000)).count == 30
        assert sets.clusters(HyperCube(dimensions=40).assign(sets, 1)).count == 1


class TestLocalitySensitiveHashing:
    def test_a_cluster_is_a_side_of_every_hyperplane(self) -> None:
        vectors = random_vectors(200, 6)
        method = LocalitySensitiveHashing(seed=5)
        planes = np.random.default_rng([5, 2]).standard_normal((1, 6, 4)).astype(np.float32)[0]
        sides = (vectors @ planes > 0) @ (1 << np.arange(4))
        assert partition(method.assign(sets_of(vectors, block=2), 4)[0]) == partition(sides)

    def test_the_scope_does_not_change_the_codes(self) -> None:
        vectors = random_vectors(60, 6)
        method = LocalitySensitiveHashing()
        image = method.assign(sets_of(vectors, scope="image", images=3), 9)
        assert np.array_equal(image.reshape(-1), method.assign(sets_of(vectors), 9)[0])

    def test_codes_have_at_most_64_bits(self) -> None:
        method = LocalitySensitiveHashing()
        assert method.refusal(64, 10) is None
        assert method.refusal(65, 10) == "a code has at most 64 bits"
