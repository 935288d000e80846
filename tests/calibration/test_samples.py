"""Samples: batches with their labels, parts that repeat with a seed, Python readers."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reuse_compiler.calibration.samples import Samples, from_reader, open_samples, split
from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.verification.inputs import InputSpec

FREE = InputSpec("x", np.dtype(np.float32), ("N", 2))
TEXT = InputSpec("t", np.dtype(object), ("N",))


def rows(count: int) -> np.ndarray:
    """Row i is filled with i."""
    return np.broadcast_to(np.arange(count, dtype=np.float32)[:, None], (count, 2)).copy()


def firsts(samples: Samples) -> list[list[float]]:
    return [sample.feed["x"][:, 0].tolist() for sample in samples]


def labels_of(samples: Samples) -> list[list[int]]:
    return [[] if sample.labels is None else sample.labels.tolist() for sample in samples]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Samples]:
    """Opens rows with label 100 + i."""

    def open_(count: int, batch: int = 1) -> Samples:
        np.save(tmp_path / "d.npy", rows(count))
        np.save(tmp_path / "l.npy", np.arange(100, 100 + count))
        return open_samples(tmp_path / "d.npy", [FREE], {"x": (batch, 2)}, tmp_path / "l.npy")

    return open_


class TestSamples:
    def test_labels_go_with_their_rows(self, opened: Callable[..., Samples]) -> None:
        samples = opened(7, batch=3)
        assert len(samples) == 2 and samples.has_labels
        assert firsts(samples) == [[0, 1, 2], [3, 4, 5]]
        assert labels_of(samples) == labels_of(samples) == [[100, 101, 102], [103, 104, 105]]
        assert samples.description == "2 runs of x [3, 2] from d.npy"

    def test_labels_over_several_files_skip_rows_that_fill_no_batch(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        np.savez(data / "a.npz", x=rows(3))
        np.savez(data / "b.npz", x=rows(4) + 10)
        (tmp_path / "l.txt").write_text("\n".join(map(str, range(7))))
        samples = open_samples(data, [FREE], {"x": (2, 2)}, tmp_path / "l.txt")
        assert firsts(samples) == [[0, 1], [10, 11], [12, 13]]
        assert labels_of(samples) == [[0, 1], [3, 4], [5, 6]]

    def test_whole_inputs_have_a_label_per_row(self, tmp_path: Path) -> None:
        np.save(tmp_path / "d.npy", rows(6).reshape(3, 2, 2))
        np.save(tmp_path / "l.npy", np.arange(6))
        samples = open_samples(tmp_path / "d.npy", [FREE], {}, tmp_path / "l.npy")
        assert labels_of(samples) == [[0, 1], [2, 3], [4, 5]]

    def test_a_subset_keeps_the_order_given(self, opened: Callable[..., Samples]) -> None:
        samples = opened(6)
        part = samples.subset([4, 1, 3]).subset([2, 0])
        assert firsts(part) == [[3], [4]] and labels_of(part) == [[103], [104]]
        assert part.first_feed["x"].tolist() == [[3, 3]]
        assert part.description == "2 of 6 runs of x [1, 2] from d.npy"

    def test_without_labels(self, tmp_path: Path) -> None:
        np.save(tmp_path / "d.npy", rows(2))
        samples = open_samples(tmp_path / "d.npy", [FREE], {})
        assert not samples.has_labels and samples[1].labels is None

    def test_values_that_are_not_finite_are_told_of_once(self, caplog: pytest.LogCaptureFixture) -> None:
        feeds = [{"x": np.full((1, 2), value, np.float32)} for value in (1.0, np.nan, np.inf)]
        samples = from_reader(feeds, [FREE])
        assert samples.shapes() and samples.digest()
        assert caplog.text.count("there are NaN or infinite values in the samples of 'x'") == 1
        caplog.clear()
        assert from_reader(feeds[:1], [FREE]).digest() and caplog.text == ""

    def test_the_digest_tells_contents_order_and_labels_apart(self, opened: Callable[..., Samples]) -> None:
        samples = opened(4)
        digests = {
            samples.digest(),
            samples.subset([1, 0, 2, 3]).digest(),
            samples.subset([0, 1, 2]).digest(),
            from_reader([sample.feed for sample in samples], [FREE]).digest(),
        }
        assert len(digests) == 4
        assert samples.subset(range(4)).digest() == samples.digest()
        again = from_reader([sample.feed for sample in samples], [FREE], np.arange(100, 104))
        assert again.digest() == samples.digest(), "it depends on contents only"

    def test_large_files_are_read_run_by_run(self, tmp_path: Path) -> None:
        """Arrays above the size at which files are mapped, stored and compressed."""
        large = np.random.default_rng(0).standard_normal((40, 10_000)).astype(np.float32)
        wide = InputSpec("x", np.dtype(np.float32), ("N", 10_000))
        np.save(tmp_path / "a.npy", large)
        np.savez(tmp_path / "b.npz", x=large)
        np.savez_compressed(tmp_path / "c.npz", x=large)
        np.save(tmp_path / "d.npy", np.asfortranarray(large))
        for name in ("a.npy", "b.npz", "c.npz", "d.npy"):
            samples = open_samples(tmp_path / name, [wide], {"x": (4, 10_000)}).subset([7, 0])
            for sample, start in zip(samples, (28, 0), strict=True):
                array = sample.feed["x"]
                assert type(array) is np.ndarray and array.flags.c_contiguous and array.flags.aligned
                np.testing.assert_array_equal(array, large[start : start + 4])


class TestSplit:
    @pytest.mark.parametrize(("count", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (4, 3, 3)), (100, (35, 35, 30))])
    def test_sizes(self, opened: Callable[..., Samples], count: int, sizes: tuple[int, ...]) -> None:
        parts = split(opened(count), 0.3, seed=0)
        assert tuple(map(len, parts)) == sizes
        assert sorted(value for part in parts for [value] in firsts(part)) == list(range(count))

    @pytest.mark.parametrize("holdout", [0.001, 0.999])
    def test_every_part_has_a_run(self, opened: Callable[..., Samples], holdout: float) -> None:
        assert min(map(len, split(opened(5), holdout, seed=0))) == 1

    def test_repeats_with_its_seed(self, opened: Callable[..., Samples]) -> None:
        samples = opened(20)
        one, same, other = ([firsts(part) for part in split(samples, 0.3, seed)] for seed in (1, 1, 2))
        assert one == same != other

    def test_too_few_runs(self, opened: Callable[..., Samples]) -> None:
        with pytest.raises(DataError, match=r"at least 3 runs .* but there are 2: 2 runs of x \[3, 2\].*smaller batch"):
            split(opened(7, batch=3), 0.3, seed=0)


class Reader:
    """As onnxruntime's CalibrationDataReader."""

    def __init__(self, feeds: list[Any]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Any:
        return next(self._feeds, None)


class TestReaders:
    @pytest.mark.parametrize("make", [Reader, list, iter], ids=["get_next", "list", "iterator"])
    def test_can_be_gone_through_again_in_any_order(self, make: Callable[[list[Any]], Any]) -> None:
        feeds = [{"x": rows(2)}, {"x": rows(3)}, {"x": rows(1) + 9}]
        samples = from_reader(make(feeds), [FREE], np.array([0, 1, 0, 1, 2, 9]))
        assert firsts(samples) == firsts(samples) == [[0, 1], [0, 1, 2], [9]]
        assert labels_of(samples.subset([2, 1])) == [[9], [0, 1, 2]]
        assert samples.description == "3 runs of x [2, 2] from a Python reader"

    def test_onnxruntimes_own_class(self) -> None:
        quantization = pytest.importorskip("onnxruntime.quantization")

        class Own(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                self.left = 3

            def get_next(self) -> dict[str, np.ndarray] | None:
                self.left -= 1
                return {"x": rows(1)} if self.left >= 0 else None

        assert len(from_reader(Own(), [FREE])) == 3

    def test_strings_come_back(self) -> None:
        feed = {"t": np.array(["a", "long"], dtype=object)}
        assert from_reader([feed], [TEXT])[0].feed["t"].tolist() == ["a", "long"]
        assert from_reader([feed], [TEXT])[0].feed["t"].dtype == object
        assert from_reader([feed], [TEXT]).digest() != from_reader([{"t": np.array(["a", "b"])}], [TEXT]).digest()

    def test_is_forgotten_with_the_samples(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        samples = from_reader([{"x": rows(2)}], [FREE])
        part = samples.subset([0])
        assert len(list(tmp_path.rglob("*.npy"))) == 1
        del samples
        gc.collect()
        assert firsts(part) == [[0, 1]], "a part keeps the data"
        del part
        gc.collect()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("reader", "message"),
        [
            ([], "gives no inputs"),
            ([{"x": rows(1)}, {"y": rows(1)}], "run 2 of the reader has no array for the input 'x'"),
            ([{"x": np.zeros((1, 3), np.float32)}], r"run 1 of the reader: an array of shape \[1, 3\] does not fit"),
            ([{"x": np.zeros((1, 2), np.int64)}], "type int64 does not fit"),
            ([rows(1)], "run 1 of the reader is a ndarray, not a dict"),
            (Reader([rows(1)]), "run 1 of the reader is a ndarray, not a dict"),
            (7, "unlike a int"),
        ],
    )
    def test_readers_that_do_not_fit(self, reader: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            from_reader(reader, [FREE])

    def test_a_reader_that_raises_is_shown_with_its_line(self) -> None:
        def feeds() -> Iterator[Any]:
            yield {"x": rows(1)}
            raise KeyError("no such photo")

        with pytest.raises(DataError, match=r"reader raises KeyError: 'no such photo' \(test_samples\.py, line"):
            from_reader(feeds(), [FREE])

    def test_labels_of_another_length(self) -> None:
        with pytest.raises(DataError, match="has 3 labels, but the data has 2 samples"):
            from_reader([{"x": rows(2)}], [FREE], np.arange(3))
        with pytest.raises(DataError, match="labels are integers, one per sample"):
            from_reader([{"x": rows(2)}], [FREE], np.array([0.5, 1.0]))


SCRIPT = """
import numpy
import helper_of_the_script

def load_data():
    return ({"x": numpy.full((1, 2), i, "float32")} for i in range(helper_of_the_script.COUNT))

def other():
    return [{"x": numpy.zeros((4, 2), "float32")}]

def broken():
    raise RuntimeError("disk on fire")
"""


class TestReaderFiles:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        (tmp_path / "helper_of_the_script.py").write_text("COUNT = 5")
        (tmp_path / "reader.py").write_text(SCRIPT)
        return tmp_path / "reader.py"

    def test_load_data_is_the_default(self, script: Path) -> None:
        assert firsts(open_samples(script, [FREE], {})) == [[0], [1], [2], [3], [4]]
        assert firsts(open_samples(f"{script}:other", [FREE], {})) == [[0, 0, 0, 0]]

    def test_modules_of_the_current_folder(self, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(script.parent)
        script.rename(script.with_name("reader_module.py"))
        assert len(open_samples("reader_module:load_data", [FREE], {})) == 5

    def test_labels_come_from_a_file(self, script: Path) -> None:
        np.save(script.with_name("l.npy"), np.arange(5))
        samples = open_samples(script, [FREE], {}, script.with_name("l.npy"))
        assert labels_of(samples) == [[0], [1], [2], [3], [4]]

    def test_mistakes(self, script: Path) -> None:
        with pytest.raises(DataError, match=r":broken raises RuntimeError: disk on fire \(reader\.py, line 12\)"):
            open_samples(f"{script}:broken", [FREE], {})
        with pytest.raises(ConfigError, match=r"has no function 'none'; it has \['broken', 'load_data', 'other'\]"):
            open_samples(f"{script}:none", [FREE], {})
        with pytest.raises(ConfigError, match=r"there is no file missing\.py"):
            open_samples("missing.py", [FREE], {})
        with pytest.raises(ConfigError, match="there is no Python module 'no_such_module'"):
            open_samples("no_such_module:f", [FREE], {})
        with pytest.raises(DataError, match=r"there is no sample data at missing\.npz"):
            open_samples("missing.npz", [FREE], {})

    def test_a_file_that_cannot_be_imported(self, script: Path) -> None:
        script.write_text("import no_such_module")
        with pytest.raises(ConfigError, match=r"importing .*reader\.py raises ModuleNotFoundError"):
            open_samples(script, [FREE], {})
