"""Feeds from random numbers and NumPy files, and files that are no use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reuse_compiler.errors import DataError
from reuse_compiler.verification.data import NoisySource, RandomSource, Source
from reuse_compiler.verification.inputs import InputSpec
from reuse_compiler.verification.sources import open_data

FLOAT = np.dtype(np.float32)
FREE = InputSpec("x", FLOAT, ("N", 3, 4))
FIXED = InputSpec("x", FLOAT, (2, 3, 4))
SCALE = InputSpec("scale", FLOAT, ())
ONE_PER_SAMPLE = InputSpec("label", np.dtype(np.int64), ("N",))


def samples(count: int, dtype: type = np.float32) -> np.ndarray:
    """Sample i is filled with i."""
    return np.broadcast_to(np.arange(count, dtype=dtype)[:, None, None], (count, 3, 4)).copy()


def firsts(source: Source, name: str = "x") -> list[list[float]]:
    """First element of each sample, by feed."""
    return [feed[name][:, 0, 0].tolist() for feed in source]


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


class TestRandom:
    def test_is_normal_and_repeats_with_its_seed(self) -> None:
        shapes = {"x": (2, 3, 400), "label": (50,)}
        first, again, other = (RandomSource([FREE, ONE_PER_SAMPLE], shapes, seed) for seed in (1, 1, 2))
        feed = next(iter(first))
        assert np.array_equal(feed["x"], next(iter(again))["x"])
        assert not np.array_equal(feed["x"], next(iter(other))["x"])
        assert feed["x"].dtype == FLOAT and abs(feed["x"].std() - 1) < 0.1
        assert set(feed["label"].tolist()) == {0, 1} and feed["label"].dtype == np.int64
        assert first.description == "random normal input x [2, 3, 400], label [50], seed 1"

    def test_has_nothing_for_strings_and_unknown_ranks(self) -> None:
        text = InputSpec("t", np.dtype(object), ("N",))
        with pytest.raises(DataError, match=r"no random values for the input 't'.*--verify-data"):
            RandomSource([text], {"t": (1,)}, 0)
        with pytest.raises(DataError, match=r"'x' float32.*declares no shape"):
            RandomSource([InputSpec("x", FLOAT, None)], {}, 0)


class TestBatches:
    def test_free_batch_is_one_or_that_of_the_shape(self, tmp_path: Path) -> None:
        path = save(tmp_path / "d.npz", x=samples(5))
        assert firsts(open_data(path, [FREE], {})) == [[0], [1], [2], [3], [4]]
        assert firsts(open_data(path, [FREE], {"x": (2, 3, 4)})) == [[0, 1], [2, 3]]
        assert firsts(open_data(path, [FREE], {"x": (9, 3, 4)})) == [[0, 1, 2, 3, 4]]

    def test_an_input_without_a_rank_has_that_of_the_shape(self, tmp_path: Path) -> None:
        path, unknown = save(tmp_path / "d.npz", x=samples(5)), InputSpec("x", FLOAT, None)
        assert firsts(open_data(path, [unknown], {"x": (2, 3, 4)})) == [[0, 1], [2, 3]]
        assert firsts(open_data(path, [unknown], {})) == [[0, 1, 2, 3, 4]]

    def test_fixed_batch_is_the_models(self, tmp_path: Path) -> None:
        source = open_data(save(tmp_path / "d.npz", x=samples(5)), [FIXED], {})
        assert firsts(source) == [[0, 1], [2, 3]] and len(source) == 2
        assert source.description == "2 runs of x [2, 3, 4] from d.npz"

    def test_an_axis_before_the_batch_counts_whole_inputs(self, tmp_path: Path) -> None:
        source = open_data(save(tmp_path / "d.npz", x=samples(6).reshape(3, 2, 3, 4)), [FIXED], {})
        assert firsts(source) == [[0, 1], [2, 3], [4, 5]]

    def test_inputs_go_together_and_a_single_one_serves_all(self, tmp_path: Path) -> None:
        path = save(tmp_path / "d.npz", x=samples(3), label=np.array([7, 8, 9]), scale=np.float32(2))
        source = open_data(path, [FREE, ONE_PER_SAMPLE, SCALE], {})
        assert firsts(source) == [[0], [1], [2]]
        assert [feed["label"].tolist() for feed in source] == [[7], [8], [9]]
        assert [float(feed["scale"]) for feed in source] == [2, 2, 2]

    def test_a_scalar_per_sample(self, tmp_path: Path) -> None:
        path = save(tmp_path / "d.npz", x=samples(2), scale=np.array([2.0, 3.0]))
        assert [float(feed["scale"]) for feed in open_data(path, [FREE, SCALE], {})] == [2, 3]


class TestSamples:
    """Which samples of the data a feed consists of."""

    @pytest.mark.parametrize("spec", [FREE, FIXED])
    def test_batches_leave_the_rest_out(self, tmp_path: Path, spec: InputSpec) -> None:
        source = open_data(save(tmp_path / "d.npz", x=samples(5)), [spec], {"x": (2, 3, 4)})
        assert source.num_samples == 5
        assert [list(source.rows(index)) for index in range(len(source))] == [[0, 1], [2, 3]]
        assert source[1]["x"][:, 0, 0].tolist() == [2, 3]

    def test_of_several_files_and_whole_inputs(self, tmp_path: Path) -> None:
        save(tmp_path / "a.npz", x=samples(3))
        save(tmp_path / "b.npz", x=samples(8).reshape(4, 2, 3, 4))
        source = open_data(tmp_path, [FREE], {"x": (3, 3, 4)})
        assert source.num_samples == 11
        assert [list(source.rows(index)) for index in range(len(source))] == [
            [0, 1, 2],
            [3, 4],
            [5, 6],
            [7, 8],
            [9, 10],
        ]
        assert [source[index]["x"][:, 0, 0].tolist() for index in (4, 0, 1)] == [[6, 7], [0, 1, 2], [0, 1]]

    def test_follow_the_input_that_has_most_batches(self, tmp_path: Path) -> None:
        path = save(tmp_path / "d.npz", scale=np.float32(2), x=samples(3))
        source = open_data(path, [SCALE, FREE], {})
        assert source.num_samples == 3 and source.rows(2) == range(2, 3)

    def test_there_is_nothing_beyond(self, tmp_path: Path) -> None:
        source = open_data(save(tmp_path / "d.npz", x=samples(2)), [FREE], {})
        for index in (-1, 2):
            with pytest.raises(IndexError):
                source[index]

    def test_files_are_closed_and_opened_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reuse_compiler.verification.data.KEPT_FILES", 2)
        for index in range(5):
            np.save(tmp_path / f"{index}.npy", samples(1) + index)
        source = open_data(tmp_path, [FREE], {})
        order = [4, 0, 2, 0, 4, 1]
        assert [source[index]["x"][0, 0, 0] for index in order] == order


class TestFiles:
    def test_npy_is_the_only_input(self, tmp_path: Path) -> None:
        np.save(tmp_path / "d.npy", samples(2, np.float64))
        assert firsts(open_data(tmp_path / "d.npy", [FREE], {})) == [[0], [1]]
        with pytest.raises(DataError, match=r"holds one array, but the model has the inputs \['x', 'scale'\]"):
            open_data(tmp_path / "d.npy", [FREE, SCALE], {})

    def test_a_folder_is_read_in_order_any_number_of_times(self, tmp_path: Path) -> None:
        save(tmp_path / "b.npz", x=samples(3)[2:])
        np.save(tmp_path / "a.npy", samples(2))
        (tmp_path / "notes.txt").write_text("not data")
        source = open_data(tmp_path, [FREE], {})
        assert len(source) == 3
        assert firsts(source) == firsts(source) == [[0], [1], [2]]

    def test_a_mistake_in_the_last_file_shows_at_once(self, tmp_path: Path) -> None:
        save(tmp_path / "a.npz", x=samples(2))
        save(tmp_path / "b.npz", y=samples(2))
        with pytest.raises(DataError, match=r"b.npz has no array for the input 'x'"):
            open_data(tmp_path, [FREE], {})

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": samples(0)}, r"no sample for the input 'x': its shape is \[0, 3, 4\]"),
            ({"x": samples(2)[:, :2]}, r"shape \[1, 2, 4\] does not fit the input 'x'"),
            (
                {"x": samples(1)[0]},
                r"shape \[3, 4\] does not fit the input 'x'.*; of a single sample save array\[None\]",
            ),
            ({"x": np.ones(3, np.float32)}, r"shape \[3\] does not fit the input 'x'"),
            ({"x": samples(2, np.uint8)}, "type uint8 does not fit the input 'x' float32"),
            ({"X": samples(2)}, "no array for the input 'x'; it has"),
        ],
    )
    def test_arrays_that_do_not_fit(self, tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_data(save(tmp_path / "d.npz", **arrays), [FREE], {})

    def test_less_than_one_fixed_batch(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="less than one batch of the input 'x'"):
            open_data(save(tmp_path / "d.npz", x=samples(1)), [FIXED], {})

    def test_unequal_numbers_of_samples(self, tmp_path: Path) -> None:
        path = save(tmp_path / "d.npz", x=samples(3), label=np.array([7, 8]))
        with pytest.raises(DataError, match="2 batches of 'label' but 3 of another input"):
            open_data(path, [FREE, ONE_PER_SAMPLE], {})

    @pytest.mark.parametrize("content", [b"", b"not numpy", b"PK\x03\x04 broken zip", b"\x93NUMPY\x01\x00"])
    @pytest.mark.parametrize("name", ["d.npz", "d.npy"])
    def test_broken_files(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a NumPy file"):
            open_data(tmp_path / name, [FREE], {})

    def test_truncated_npz(self, tmp_path: Path) -> None:
        path = save(tmp_path / "d.npz", x=samples(50))
        path.write_bytes(path.read_bytes()[:-300])
        with pytest.raises(DataError, match="cannot be read as a NumPy file"):
            open_data(path, [FREE], {})

    def test_pickled_objects_are_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="cannot be read"):
            open_data(tmp_path / "d.npy", [FREE], {})


def test_places_without_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no sample data at"):
        open_data(tmp_path / "missing.npz", [FREE], {})
    with pytest.raises(DataError, match=r"the folder .* holds no sample data: no \.npz"):
        open_data(tmp_path, [FREE], {})
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(
        DataError, match=r"is not sample data: give an \.npz or \.npy file, a folder of them, a photo or a"
    ):
        open_data(tmp_path / "d.csv", [FREE], {})
    with pytest.raises(DataError, match="the model has no inputs"):
        open_data(tmp_path / "d.csv", [], {})


def test_noise_makes_all_different_and_is_the_same_each_time(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3, 4), np.float32), n=np.arange(2, dtype=np.int64))
    specs = [FREE, InputSpec("n", np.dtype(np.int64), ("N",))]
    plain = open_data(tmp_path / "d.npz", specs, {})
    noisy = NoisySource(plain, 1e-3, seed=1)
    assert len(noisy) == len(plain) and noisy.num_samples == plain.num_samples and noisy.rows(0) == plain.rows(0)
    first, again = noisy[0], noisy[0]
    assert len(np.unique(first["x"])) == first["x"].size and first["x"].dtype == np.float32
    assert np.abs(first["x"] - 1).max() < 0.01
    np.testing.assert_array_equal(first["x"], again["x"])
    np.testing.assert_array_equal(first["n"], plain[0]["n"])


@pytest.mark.parametrize("shape", [(1, 3, 2**20, 2**20), (2**62, 2**62), (2**29,)])
def test_random_data_is_bounded(shape: tuple[int, ...]) -> None:
    spec = InputSpec("x", np.dtype(np.float32), shape)
    with pytest.raises(DataError, match=r"too large for random data .* --shape"):
        RandomSource([spec], {"x": shape}, 0)


def test_random_data_of_all_inputs_together_is_bounded() -> None:
    """Each would do alone; nothing is made before all are counted, else this took gigabytes."""
    shapes = {"a": (2**27,), "b": (2**27, 1), "c": (3,)}
    specs = [InputSpec(name, np.dtype(np.float32), shape) for name, shape in shapes.items()]
    with pytest.raises(DataError, match=r"the input 'a' .*, with 2 more, is too large for random data .* --shape"):
        RandomSource(specs, shapes, 0)


class TestInMemory:
    """Arrays of a caller are what a file with them would be; a sequence is of single runs."""

    @pytest.mark.parametrize("by_name", [True, False])
    def test_arrays_are_cut_as_those_of_a_file(self, tmp_path: Path, by_name: bool) -> None:
        path = save(tmp_path / "d.npz", x=samples(5))
        source = open_data({"x": samples(5)} if by_name else samples(5), [FIXED], {})
        assert firsts(source) == firsts(open_data(path, [FIXED], {})) == [[0, 1], [2, 3]]
        assert [source.rows(index) for index in range(len(source))] == [range(2), range(2, 4)]
        assert source.description == "2 runs of x [2, 3, 4] from memory"

    @pytest.mark.parametrize("by_name", [True, False])
    def test_each_item_of_a_sequence_is_one_run(self, by_name: bool) -> None:
        feeds = [samples(count, np.float64) for count in (3, 1)]
        source = open_data([{"x": feed} for feed in feeds] if by_name else feeds, [FREE], {})
        assert firsts(source) == [[0, 1, 2], [0]] and source[0]["x"].dtype == FLOAT
        assert source.rows(1) == range(3, 4) and source.num_samples == 4

    def test_what_does_not_fit(self) -> None:
        cases: list[tuple[Any, list[InputSpec], str]] = [
            (samples(2).astype(int), [FREE], "data in memory: an array of type int64 does not fit the input 'x'"),
            ([samples(2), samples(3)], [FIXED], r"feed 1 of the data in memory: an array of shape \[3, 3, 4\]"),
            ([{"y": samples(2)}], [FREE], "feed 0 of the data in memory has no array for the input 'x'"),
            (samples(2), [FREE, SCALE], "the data in memory holds one array, but the model has the inputs"),
            ([], [FREE], "the data in memory is empty"),
            ([[[1.0], [1.0, 2.0]]], [FREE], "feed 0 of the data in memory is not made of arrays: "),
            ({}, [], "the model has no inputs"),
        ]
        for data, specs, message in cases:
            with pytest.raises(DataError, match=message):
                open_data(data, specs, {})
