"""Independent tasks of a calibration: done here, one after the other, or by processes of this machine or of a cluster.

Joblib starts the processes, Dask or Ray has the cluster. What tasks read lies in files that all of them map, and is
not sent. Whoever does the tasks, the results are the same to the bit, on processors of the same kind.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.errors import ConfigError, LibraryError, OutputError
from reuse_compiler.paths import temporary_folder
from reuse_compiler.processors import use_processors
from reuse_compiler.runtime import Provider, ProviderName, running_on, with_libraries

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")
AHEAD = 4
"""Tasks for each worker that are handed out together."""
ATTEMPTS = 3
"""How often tasks are handed out on this machine whose workers die."""
LINEAR_ALGEBRA_THREADS = 2
"""Of a task, at most: OpenBLAS sums up alike with two threads and with more of them, but not with one."""
DEATHS = (
    "worker processes have died over the same tasks again and again, perhaps as memory ran out: use fewer of them, or "
    "machines with more memory"
)
PATIENCE = 60
"""Seconds for the first worker of a cluster to come."""


@dataclass(frozen=True)
class Cluster:
    """A backend that has processes of other machines."""

    module: str
    extra: str
    """That of this package that has the module."""
    address: str
    """What that of a scheduler looks like."""


CLUSTERS: Mapping[str, Cluster] = {
    "dask": Cluster("distributed", "cluster", "tcp://10.0.0.1:8786"),
    "ray": Cluster("ray", "ray", "10.0.0.1:6379"),
}


class Shared:
    """An array that tasks read: a file where other processes do those, which goes with this object."""

    def __init__(self, array: NDArray[Any], folder: Path | None = None) -> None:
        self._array: NDArray[Any] | None = None
        self._path: Path | None = None
        if folder is None or array.dtype.hasobject:
            self._array = array
            return
        self._path = folder / f"{uuid4().hex}.npy"
        weakref.finalize(self, self._path.unlink, missing_ok=True)
        try:
            np.save(self._path, array)
        except OSError as error:
            raise OutputError(f"what the workers read cannot be kept in {folder}: {error.strerror or error}") from error

    @property
    def array(self) -> NDArray[Any]:
        """The array, which may not be written to; that of a file takes memory only as long as it is used."""
        if self._array is not None:
            return self._array
        assert self._path is not None
        return np.asarray(np.load(self._path, mmap_mode="r"))


@dataclass(frozen=True)
class Circumstances:
    """What is as in the main process while a task is done, and what part of a machine is the task's."""

    provider: ProviderName
    libraries: Sequence[str]
    linear_algebra_threads: int
    processors: int

    def do(self, function: Callable[[Task], Result], task: Task) -> Result:
        """Does a task in another process."""
        from threadpoolctl import threadpool_limits

        with ExitStack() as stack:
            stack.enter_context(threadpool_limits(self.linear_algebra_threads, "blas"))
            stack.enter_context(use_processors(self.processors))
            stack.enter_context(running_on(Provider(self.provider)))
            stack.enter_context(with_libraries(self.libraries))
            return function(task)


class Workers:
    """Does tasks. Without options, and with those that ask for one process only, it does them itself."""

    def __init__(self, options: CalibrationOptions | None = None, folder: Path | None = None) -> None:
        """What the workers of a cluster read is kept in `folder`, which all of them see under this name."""
        self._folder: Path | None = None
        self._count = 1
        self._do_all: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]] | None = None
        """Has tasks done by other processes; None: this one does them."""
        if options is None:
            return
        check_workers(options)
        if options.backend == "loky" and options.workers == 1:
            return
        _check_extra(options)
        own = 1
        if options.backend == "dask":
            client = _client_of(str(options.scheduler))
            weakref.finalize(self, client.close).atexit = False
            self._count = max(1, sum(client.ncores().values()))
            self._do_all = partial(_do_by_dask, client)
        elif options.backend == "ray":
            self._count = _join_ray(str(options.scheduler))
            self._do_all = _do_by_ray
        else:
            self._count, own = options.workers, max(1, (os.cpu_count() or 1) // options.workers)
            self._do_all = partial(_do_here, options.workers)
        libraries = [str(Path(library).resolve()) for library in options.custom_op_libraries]
        self._circumstances = Circumstances(options.provider, libraries, _linear_algebra_threads(), own)
        shared = folder.absolute() if folder is not None and options.backend in CLUSTERS else None
        try:
            self._folder = temporary_folder(self, "reuse-tasks-", shared)
        except OSError as error:
            raise OutputError(f"there is no place for what the workers read: {error}") from error

    @property
    def are_others(self) -> bool:
        """Whether other processes do the tasks."""
        return self._do_all is not None

    def share(self, array: NDArray[Any]) -> Shared:
        """Returns an array as tasks take it; it may not be changed any more."""
        return Shared(array, self._folder)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task], ahead: int = AHEAD) -> Iterator[Result]:
        """Yields what a module's function returns for each task, in order.

        Other processes are given `ahead` tasks each, and the next ones when the results of all those were asked for.
        """
        if self._do_all is None:
            yield from map(function, tasks)
            return
        waiting = iter(tasks)
        while part := list(islice(waiting, ahead * self._count)):
            yield from self._do_all(partial(self._circumstances.do, function), part)


def _do_here(processes: int, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    from joblib import Parallel, delayed

    for _ in range(ATTEMPTS):
        try:
            return list(Parallel(processes, "loky", batch_size=1)(delayed(function)(task) for task in tasks))
        except BrokenProcessPool:
            logger.warning("a worker process has died: what it had to do is done again")
    raise LibraryError(DEATHS)


def _do_by_dask(client: Any, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """Dask does again what a dead worker has left, by its own rules, after which joblib would wait for ever."""
    from distributed import KilledWorker

    try:
        return list(client.gather(client.map(function, tasks, pure=False)))
    except KilledWorker as error:
        raise LibraryError(DEATHS) from error


def _pickled(function: Callable[[Task], Any], task: Task) -> bytes:
    """Does a task; arrays that Ray itself packs come out read-only."""
    return pickle.dumps(function(task))


def _do_by_ray(function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    ray: Any = importlib.import_module("ray")
    remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_pickled)
    try:
        return [pickle.loads(result) for result in ray.get([remote.remote(function, task) for task in tasks])]
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise LibraryError(DEATHS) from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


SERIAL = Workers()
"""This process alone."""


def check_workers(options: CalibrationOptions) -> None:
    """Raises ConfigError for a backend without its scheduler, and for what a cluster knows itself."""
    cluster, wish = CLUSTERS.get(options.backend), f"--backend {options.backend}"
    if cluster is None:
        if options.scheduler is not None:
            raise ConfigError("--scheduler is the address of a cluster's scheduler: give --backend dask or ray, too")
        return
    if options.scheduler is None:
        raise ConfigError(f"{wish} needs the scheduler's address, as in --scheduler {cluster.address}")
    if options.workers != 1:
        raise ConfigError(f"{wish} uses all workers that the cluster has: leave --workers out")


def _check_extra(options: CalibrationOptions) -> None:
    cluster = CLUSTERS.get(options.backend)
    try:
        for module in ("joblib", "threadpoolctl", *([cluster.module] if cluster else [])):
            importlib.import_module(module)
    except ImportError as error:
        extra = cluster.extra if cluster else "cluster"
        raise LibraryError(
            f"more than one process needs {error.name}, which is missing: `pip install 'reuse-compiler[{extra}]'`, or "
            "leave out --workers and --backend"
        ) from error


def _client_of(scheduler: str) -> Any:
    import distributed

    try:
        client = distributed.Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--scheduler {scheduler}: there is no Dask scheduler ({error})") from error
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        client.close()
        raise ConfigError(f"--scheduler {scheduler}: the cluster has had no workers for {PATIENCE} seconds") from error
    return client


def _join_ray(address: str) -> int:
    """Joins the cluster for as long as this process lives. Returns how many processors its nodes have."""
    ray: Any = importlib.import_module("ray")
    try:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--scheduler {address}: there is no Ray cluster ({error})") from error
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _linear_algebra_threads() -> int:
    """Returns how many threads NumPy's sums are computed with in a task, so that they are as they are here."""
    from threadpoolctl import threadpool_info

    own = [int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]
    return min(LINEAR_ALGEBRA_THREADS, *own) if own else LINEAR_ALGEBRA_THREADS
