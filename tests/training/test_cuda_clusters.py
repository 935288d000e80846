"""Training on the library's CUDA kernels: on a GPU where there is one, and run on the host everywhere.

On the host the tensors are the CPU's and the library is that of tests/custom_ops/cuda_host.py; all else is what runs on
a GPU. With REUSE_REQUIRE_CUDA=1 in the environment, as the GPU check sets it, a missing GPU is an error.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor  # noqa: E402

from reuse_compiler.errors import ConfigError, LibraryError  # noqa: E402
from reuse_compiler.reuse.config import LayerSettings, make_settings  # noqa: E402
from reuse_compiler.reuse.families import FAMILIES, HashParameters  # noqa: E402
from reuse_compiler.runtime import capi  # noqa: E402
from reuse_compiler.training import cuda_clusters  # noqa: E402
from reuse_compiler.training import layer as layer_module  # noqa: E402
from reuse_compiler.training.clustering import cluster  # noqa: E402
from reuse_compiler.training.cuda_clusters import CudaClusters  # noqa: E402
from reuse_compiler.training.layer import ReuseConv2d  # noqa: E402
from reuse_compiler.training.library_clusters import LibraryClusters  # noqa: E402
from tests.comparison import relative_error  # noqa: E402
from tests.custom_ops import cuda_host  # noqa: E402
from tests.training.networks import random_trees, smooth_images  # noqa: E402
from tests.training.test_gradients import CONVOLUTIONS, LAYOUTS, make_layer, run  # noqa: E402
from tools.training_results.gpu import missing  # noqa: E402


class Machine:
    """Layers whose inputs are clustered by the CUDA kernels."""

    def __init__(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device, self._monkeypatch = device, monkeypatch

    def run(self, layer: ReuseConv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns output and the gradients of weight and input for a random delta of the output, on the CPU."""
        with self._monkeypatch.context() as patch:
            if self.device == "cpu":
                patch.setattr(layer_module, "cluster", CudaClusters)
            return run(layer.to(self.device), x.to(self.device))

    def clusters(self, layer: ReuseConv2d, x: Tensor, keep_codes: bool = False) -> CudaClusters:
        blocking = layer.blocking(layer.settings, x.shape)
        return CudaClusters(x.to(self.device), blocking, layer.settings, layer.parameters_of_hash, keep_codes)


@pytest.fixture(params=["host", "gpu"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    if request.param == "host":
        host = capi.declare(capi.declare(cuda_host.load(), capi.FUNCTIONS), capi.CUDA_FUNCTIONS)
        monkeypatch.setattr(cuda_clusters, "cuda_layer_library", lambda: host)
    elif reason := missing():
        (pytest.fail if os.environ.get("REUSE_REQUIRE_CUDA") == "1" else pytest.skip)(reason)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield Machine("cpu" if request.param == "host" else "cuda", monkeypatch)


def assert_same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    for own, other in zip(found, wanted, strict=True):
        assert own.shape == other.shape and own.dtype == other.dtype
        assert relative_error(own.numpy(), other.numpy()) < tolerance


@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("layout, length", LAYOUTS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_a_step_is_the_cpus(machine: Machine, convolution: str, layout: str, length: int, order: str) -> None:
    layer = make_layer(convolution, layout, length)
    x = smooth_images(3, layer.in_channels, 11).to(memory_format=getattr(torch, order))
    wanted = run(layer, x)
    found = machine.run(layer, x)
    assert_same(found, wanted)
    if order == "channels_last":
        assert found[0].is_contiguous(memory_format=torch.channels_last)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "images apart": {"scope": "image"},
    "guarded": {"capacity": 0.1},
    "angular": {"metric": "angular"},
    "all": {"scope": "image", "capacity": 0.2, "metric": "angular"},
    "int8 tables": {"table": "int8"},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", SETTINGS)
def test_clusters_are_the_cpus(machine: Machine, family: Any, options: str) -> None:
    settings = make_settings(family=family, layout="channel", L=6, H=5, **SETTINGS[options])
    layer = layer_with(settings)
    x = smooth_images(3, 16, 9).round(decimals=1)
    x[0, 0, 0, 0] = float("nan")
    found = machine.clusters(layer, x, keep_codes=True)
    wanted = LibraryClusters(x, found.blocking, settings, layer.parameters_of_hash, True)
    assert found.count == wanted.count
    assert torch.equal(found.ids.cpu(), wanted.ids)
    for block in range(found.blocking.num_blocks):
        assert torch.equal(found.members(block).cpu(), wanted.members(block))
        assert torch.equal(found.codes(block).cpu(), wanted.codes(block))
        torch.testing.assert_close(
            found.centroids(block).cpu(), wanted.centroids(block), rtol=1e-6, atol=1e-6, equal_nan=True
        )


def layer_with(settings: LayerSettings) -> ReuseConv2d:
    torch.manual_seed(1)
    drawn = make_settings(family="sign", layout="channel", L=6, H=5)
    layer = ReuseConv2d(16, 12, 3, padding=1, settings=drawn if settings.family == "learned" else settings)
    if settings.family == "learned":
        layer.set_settings(settings, random_trees(3, 4))
    return layer


def test_a_step_repeats_bit_by_bit(machine: Machine) -> None:
    layer, x = make_layer("dilations", "channel", 4), smooth_images(3, 4, 11)
    first = machine.run(layer, x)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(machine.run(layer, x), first, strict=True))


def test_only_the_gradients_that_are_asked_for_are_computed(machine: Machine) -> None:
    layer, x = make_layer("groups", "channel", 4), smooth_images(3, 12, 11)
    clusters = machine.clusters(layer, x)
    weight = layer.weight.detach().to(machine.device)
    grad_y = torch.randn(3, 6, 11, 11, generator=torch.Generator().manual_seed(3)).to(machine.device)
    both = clusters.backward(weight, grad_y, True, True)
    only_weight, only_x = (clusters.backward(weight, grad_y, *wanted) for wanted in ((True, False), (False, True)))
    assert only_weight.x is None and torch.equal(only_weight.weight, both.weight)
    assert only_x.weight is None and torch.equal(only_x.x, both.x)


def test_clusters_of_earlier_batches_are_used_again(machine: Machine) -> None:
    """What is written to centroids is what forward and backward pass compute with."""
    steps, known = [], []
    for compute in (run, machine.run):
        layer = make_layer("plain", "channel", 4)
        layer.cluster_reuse = True
        compute(layer, smooth_images(3, 8, 11, seed=1))
        steps.append(compute(layer, smooth_images(3, 8, 11, seed=2)))
        known.append(layer.counts.known)
    assert known[0] == known[1] > 0
    assert_same(steps[1], steps[0])
    forgetful = run(make_layer("plain", "channel", 4), smooth_images(3, 8, 11, seed=2))
    assert relative_error(steps[1][0].numpy(), forgetful[0].numpy()) > 0.01


def test_hyperplanes_get_the_cpus_gradient(machine: Machine) -> None:
    gradients = []
    for compute in (run, machine.run):
        layer = make_layer("plain", "channel", 4, soft_hash=0.5)
        torch.manual_seed(5)  # of the sample of vectors
        compute(layer, smooth_images(2, 8, 9))
        gradients.append(layer.hyperplanes.grad.cpu())
    assert gradients[0].abs().max() > 0.0
    if machine.device == "cpu":  # a GPU draws another sample
        assert_same((gradients[1],), (gradients[0],))


def test_parameters_that_do_not_fit_are_refused(machine: Machine) -> None:
    layer, x = make_layer("plain", "channel", 4), smooth_images(2, 8, 9)
    wrong = HashParameters(projections=layer.parameters_of_hash.projections[:1])
    with pytest.raises(ConfigError, match=r"cannot compute this layer.*projections"):
        CudaClusters(x.to(machine.device), layer.blocking(layer.settings, x.shape), layer.settings, wrong, False)


def test_on_a_gpu_it_is_what_layers_use(machine: Machine) -> None:
    layer, x = make_layer("plain", "channel", 4), smooth_images(2, 8, 9)
    arguments = (layer.blocking(layer.settings, x.shape), layer.settings, layer.parameters_of_hash)
    expected = LibraryClusters if machine.device == "cpu" else CudaClusters
    assert type(cluster(x.to(machine.device), *arguments)) is expected
    assert type(cluster(x.to(machine.device).double(), *arguments)) not in (LibraryClusters, CudaClusters)


def test_tf32_and_other_streams(machine: Machine) -> None:
    if machine.device == "cpu":
        pytest.skip("PyTorch's settings and streams of a GPU")
    layer, x = make_layer("dilations", "channel", 4), smooth_images(3, 4, 11)
    wanted = machine.run(layer, x)
    with torch.cuda.stream(torch.cuda.Stream()):
        assert all(torch.equal(a, b) for a, b in zip(machine.run(layer, x), wanted, strict=True))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        rounded = machine.run(layer, x)
    assert not torch.equal(rounded[0], wanted[0])
    assert_same(rounded, wanted, tolerance=3e-3)


def test_a_library_without_the_functions_says_what_to_do() -> None:
    with pytest.raises(LibraryError, match=r"reuse_cuda_number.*pip install"):
        capi.declare(ctypes.CDLL(None), capi.CUDA_FUNCTIONS)
