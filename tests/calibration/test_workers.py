"""Tasks done by other processes: the same results to the bit, and none is lost with a process that dies."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from distributed import LocalCluster

from reuse_compiler.calibration import workers as workers_module
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.calibration.workers import SERIAL, Workers
from reuse_compiler.configuration import parameters_path
from reuse_compiler.errors import ConfigError, LibraryError
from reuse_compiler.processors import processors, use_processors
from tests.calibration.test_calibrate import calibrate, network
from tests.calibration.worker_tasks import dead, doubled_unless_dead, last_of


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REUSE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two processes."""
    with LocalCluster(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """The address of a cluster of one node with two processors, where Ray is installed: CI's environment has none."""
    ray = pytest.importorskip("ray")
    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture
def others(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options for two other processes, of this machine or of a cluster."""
    if request.param == "loky":
        return {"workers": 2}
    if request.param == "ray":
        return {"backend": "ray", "scheduler": request.getfixturevalue("ray_cluster")}
    return {"backend": "dask", "scheduler": request.getfixturevalue("scheduler")}


ALL = pytest.mark.parametrize("others", ["loky", "dask", "ray"], indirect=True)


def known(report: CalibrationReport) -> list[Any]:
    """All of the layers' measurements but the times, and what the trials came to."""
    measured = [
        own.model_dump(exclude={"dense_ms", "reuse_ms"}) for layer in report.layers for own in layer.measurements
    ]
    layers = [(layer.name, layer.sensitivity, layer.error_as_is, layer.error_reconstructed) for layer in report.layers]
    trials = [(trial.step, trial.layers, trial.value, trial.output_error) for trial in report.trials]
    checks = [(how, check.value, check.output_error) for how, check in report.reconstruction.items()]
    return [measured, layers, trials, checks]


@ALL
def test_a_calibration_comes_to_the_same_whoever_does_it(others: dict[str, Any], tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "net.onnx")
    alone = calibrate(tmp_path / "net.onnx", "alone.json")
    together = calibrate(tmp_path / "net.onnx", "together.json", **others)
    assert any(layer.chosen for layer in alone.layers) and known(together) == known(alone)
    for name in ("{}.json", str(parameters_path(Path("{}.json")))):
        files = [(tmp_path / name.format(own)).read_bytes() for own in ("alone", "together")]
        assert files[0].replace(b"alone", b"together") == files[1]
    left = {path.name for path in tmp_path.iterdir()} - {"net.onnx"}
    assert not any(name.startswith("reuse-tasks-") for name in left), left


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@ALL
def test_the_tasks_of_a_worker_that_dies_are_done_again(others: dict[str, Any], tmp_path: Path) -> None:
    workers = Workers(CalibrationOptions(**others), tmp_path)
    array = workers.share(np.array([2]))
    tasks = [(number, tmp_path / "died", array) for number in range(20)]
    found = list(workers.map(doubled_unless_dead, tasks))
    assert (tmp_path / "died").exists()
    assert [number for number, _ in found] == [2 * number for number in range(20)]
    assert os.getpid() not in {process for _, process in found}


def test_what_is_shared_is_a_file_that_goes_with_it(scheduler: str, tmp_path: Path) -> None:
    workers = Workers(CalibrationOptions(backend="dask", scheduler=scheduler), tmp_path)
    shared = workers.share(np.arange(1000.0))
    assert list(workers.map(last_of, [shared])) == [999.0]
    assert len(list(tmp_path.glob("*/*.npy"))) == 1 and len(pickle.dumps(shared)) < 1000
    del shared
    assert not list(tmp_path.glob("*/*.npy"))
    words = workers.share(np.array(["a", "b"], dtype=object))  # which cannot be mapped
    assert list(workers.map(last_of, [words])) == ["b"] and not list(tmp_path.glob("*/*.npy"))
    del workers, words
    assert not list(tmp_path.iterdir())


def test_one_process_does_its_tasks_itself_when_they_are_asked_for() -> None:
    done: list[int] = []
    results = SERIAL.map(done.append, iter([1, 2, 3]))
    next(results)
    assert done == [1]
    array = np.zeros(3)
    assert SERIAL.share(array).array is array and not SERIAL.are_others


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheduler": "tcp://here:1"}, "give --backend dask"),
        ({"backend": "dask"}, "needs the scheduler's address"),
        ({"backend": "ray"}, "as in --scheduler 10.0.0.1:6379"),
        ({"backend": "dask", "scheduler": "tcp://here:1", "workers": 2}, "leave --workers out"),
        ({"backend": "dask", "scheduler": "nonsense://here"}, "there is no Dask scheduler"),
    ],
)
def test_wishes_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Workers(CalibrationOptions(**options))


def test_a_cluster_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "PATIENCE", 0.1)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(ConfigError, match="has had no workers"),
    ):
        Workers(CalibrationOptions(backend="dask", scheduler=cluster.scheduler_address))


@pytest.mark.parametrize(
    ("options", "missing", "extra"),
    [
        ({"workers": 2}, "joblib", "cluster"),
        ({"backend": "dask", "scheduler": "tcp://here:1"}, "distributed", "cluster"),
        ({"backend": "ray", "scheduler": "here:1"}, "ray", "ray"),
    ],
)
def test_without_the_extra_it_is_named(
    options: dict[str, Any], missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(LibraryError, match=rf"{missing}.*reuse-compiler\[{extra}\]"):
        Workers(CalibrationOptions(**options))


def test_a_share_of_the_processors_ends_where_it_began() -> None:
    with use_processors(3):
        assert processors() == 3
    assert processors() == os.cpu_count()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@ALL  # at the end, as it leaves a cluster without workers for a while
def test_tasks_that_kill_every_worker_end_in_a_sentence(others: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="died over the same tasks again and again"):
        list(Workers(CalibrationOptions(**others), tmp_path).map(dead, [os.getpid()]))
