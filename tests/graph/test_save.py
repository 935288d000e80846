"""A saved model works where it was written, whatever its external data, and nothing is lost by a failure."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from reuse_compiler.errors import ModelError, OutputError
from reuse_compiler.graph import load_model, save_model
from reuse_compiler.graph.save import ALIGNMENT
from reuse_compiler.graph.tensors import external_data, external_entry, is_external, set_external_data
from tests.graph.external import save_with_data
from tests.passes.models import Array, conv_model, random_array, run, tensor

FEED = {"x": random_array(1, 4, 8, 8)}


def expected() -> Array:
    return run(conv_model(), FEED)[0]


def assert_works(path: Path) -> None:
    """Runs the file in onnxruntime, which resolves external data itself."""
    np.testing.assert_array_equal(run(str(path), FEED)[0], expected())


def no_leftovers(folder: Path) -> bool:
    return not [file for file in folder.iterdir() if file.name.endswith(".part")]


def test_round_trip(tmp_path: Path) -> None:
    model = conv_model()
    assert save_model(model, tmp_path / "m.onnx") == [tmp_path / "m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == model.SerializeToString()
    assert load_model(tmp_path / "m.onnx") == model
    assert no_leftovers(tmp_path)


def test_an_existing_file_is_kept_unless_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already; give another name, or pass --overwrite"):
        save_model(conv_model(), path)
    assert path.read_text() == "precious"
    save_model(conv_model(), path, overwrite=True)
    assert_works(path)
    assert no_leftovers(tmp_path)


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    save_model(conv_model(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("name", ["", "missing/m.onnx", "file/m.onnx"])
def test_impossible_places(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"is a folder|does not exist"):
        save_model(conv_model(), tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_write_protected_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="write-protected"):
            save_model(conv_model(), tmp_path / "m.onnx")
    finally:
        tmp_path.chmod(0o700)


def test_a_failing_write_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(conv_model(), tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        save_model(conv_model(bias=False), tmp_path / "m.onnx", overwrite=True)
    assert (tmp_path / "m.onnx").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_in_the_same_folder_the_data_file_is_shared(tmp_path: Path) -> None:
    source = save_with_data(conv_model(), tmp_path / "m.onnx", "sub/weights.bin")
    written = save_model(load_model(source), tmp_path / "out.onnx")
    assert written == [tmp_path / "out.onnx"]
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()
    assert_works(tmp_path / "out.onnx")


def test_in_another_folder_the_data_is_gathered_beside_the_output(tmp_path: Path) -> None:
    source = save_with_data(conv_model(), tmp_path / "in" / "m.onnx", "weights.bin")
    (tmp_path / "out").mkdir()
    written = save_model(load_model(source), tmp_path / "out" / "m2.onnx")
    assert written == [tmp_path / "out" / "m2.onnx", tmp_path / "out" / "m2.onnx.data"]
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    assert_works(written[0])
    saved = onnx.load(written[0], load_external_data=False)
    assert {external_entry(t, "location") for t in saved.graph.initializer} == {"m2.onnx.data"}
    assert all(external_data(t).offset % ALIGNMENT == 0 for t in saved.graph.initializer)


def test_data_that_tensors_share_is_gathered_once(tmp_path: Path) -> None:
    model = conv_model()
    source = save_with_data(model, tmp_path / "in" / "m.onnx", "weights.bin")
    loaded = load_model(source)
    twin = loaded.graph.initializer.add()
    twin.CopyFrom(loaded.graph.initializer[0])
    twin.name = "twin"
    (tmp_path / "out").mkdir()
    save_model(loaded, tmp_path / "out" / "m.onnx")
    assert (tmp_path / "out" / "m.onnx.data").stat().st_size == ALIGNMENT + 4 * 6  # weights, then the bias
    saved = load_model(tmp_path / "out" / "m.onnx")
    assert external_data(saved.graph.initializer[2]) == external_data(saved.graph.initializer[0])


def test_an_existing_data_file_is_kept_unless_overwritten(tmp_path: Path) -> None:
    source = save_with_data(conv_model(), tmp_path / "in" / "m.onnx", "weights.bin")
    out = tmp_path / "out"
    out.mkdir()
    (out / "m.onnx.data").write_text("precious")
    with pytest.raises(OutputError, match=r"m\.onnx\.data exists already"):
        save_model(load_model(source), out / "m.onnx")
    assert (out / "m.onnx.data").read_text() == "precious"
    assert [file.name for file in out.iterdir()] == ["m.onnx.data"]
    save_model(load_model(source), out / "m.onnx", overwrite=True)
    assert_works(out / "m.onnx")


def test_saving_does_not_change_the_model_in_memory(tmp_path: Path) -> None:
    loaded = load_model(save_with_data(conv_model(), tmp_path / "in" / "m.onnx", "weights.bin"))
    before = loaded.SerializeToString()
    (tmp_path / "out").mkdir()
    save_model(loaded, tmp_path / "out" / "m.onnx")
    assert loaded.SerializeToString() == before


def test_too_large_models_get_a_data_file(tmp_path: Path) -> None:
    model = conv_model(weights=(16, 4, 5, 5))
    model.graph.initializer.append(tensor("small", np.arange(3)))
    written = save_model(model, tmp_path / "m.onnx", largest_bytes=4096)
    saved = onnx.load(written[0], load_external_data=False)
    assert [is_external(t) for t in saved.graph.initializer] == [True, False, False]
    assert written[0].stat().st_size < 4096
    np.testing.assert_array_equal(run(str(written[0]), FEED)[0], run(model, FEED)[0])


def test_moved_weights_never_go_into_a_file_that_is_read_from(tmp_path: Path) -> None:
    """Overwriting a model in place: its own data file stays, the new weights go elsewhere."""
    source = save_with_data(conv_model(), tmp_path / "m.onnx", "m.onnx.data")
    before = (tmp_path / "m.onnx.data").read_bytes()
    loaded = load_model(source)
    loaded.graph.initializer.append(tensor("more", random_array(2000)))
    written = save_model(loaded, source, overwrite=True, largest_bytes=4096)
    assert written == [source, tmp_path / "m.onnx.2.data"]
    assert (tmp_path / "m.onnx.data").read_bytes() == before
    assert_works(source)


def test_more_than_two_gigabytes_are_shared_without_reading_them(tmp_path: Path) -> None:
    """A sparse file stands for 3 GB of weights; nothing but the model itself is written."""
    model = conv_model()
    path = save_with_data(model, tmp_path / "m.onnx", "weights.bin")
    with (tmp_path / "weights.bin").open("r+b") as stream:
        stream.truncate(3 * 2**30)
    stored = onnx.load(path, load_external_data=False)
    huge = stored.graph.initializer.add(name="huge", data_type=onnx.TensorProto.FLOAT, dims=[3 * 2**28 - 1024])
    set_external_data(huge, "weights.bin", 4096, 3 * 2**30 - 4096)
    path.write_bytes(stored.SerializeToString())
    written = save_model(load_model(path), tmp_path / "out.onnx")
    assert [file.stat().st_size < 10_000 for file in written] == [True]
    assert load_model(tmp_path / "out.onnx").graph.initializer[2].dims == [3 * 2**28 - 1024]


def test_linked_data_takes_no_space(tmp_path: Path) -> None:
    source = save_with_data(conv_model(), tmp_path / "in" / "m.onnx", "weights.bin")
    (tmp_path / "out").mkdir()
    save_model(load_model(source), tmp_path / "out" / "m.onnx", link_data=True)
    assert (tmp_path / "out" / "m.onnx.1.data").samefile(tmp_path / "in" / "weights.bin")
    assert_works(tmp_path / "out" / "m.onnx")


def test_data_that_vanished_since_loading(tmp_path: Path) -> None:
    loaded = load_model(save_with_data(conv_model(), tmp_path / "in" / "m.onnx", "weights.bin"))
    (tmp_path / "in" / "weights.bin").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"cannot read the external data .*weights\.bin"):
        save_model(loaded, tmp_path / "out" / "m.onnx")
    assert not list((tmp_path / "out").iterdir())
