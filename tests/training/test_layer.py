"""ReuseConv2d as a drop-in: parameters, checkpoints, memory formats, precision, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor, nn  # noqa: E402

from reuse_compiler.errors import ConfigError, DataError  # noqa: E402
from reuse_compiler.reference.operators import hash_vectors  # noqa: E402
from reuse_compiler.reference.session import Kept, cluster_with_kept  # noqa: E402
from reuse_compiler.reuse.config import DEFAULT_MEMORY, LayerSettings, make_settings  # noqa: E402
from reuse_compiler.reuse.families import FAMILIES, HashParameters  # noqa: E402
from reuse_compiler.training.cluster_memory import ClusterMemory  # noqa: E402
from reuse_compiler.training.clustering import cluster  # noqa: E402
from reuse_compiler.training.layer import ReuseConv2d  # noqa: E402
from reuse_compiler.training.torch_clusters import _exact  # noqa: E402
from tests.comparison import relative_error  # noqa: E402
from tests.training.networks import random_trees, smooth_images  # noqa: E402

CHANNEL = make_settings(family="sign", layout="channel", L=8, H=7)
EXACT = make_settings(family="exact", layout="channel", L=8, H=1)


def layer_with(settings: LayerSettings = CHANNEL, **options: Any) -> ReuseConv2d:
    torch.manual_seed(0)
    return ReuseConv2d(16, 12, 3, padding=1, settings=settings, **options)


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.sin().sum().backward()
    return [y.detach(), x.grad, layer.weight.grad, layer.bias.grad]


def test_lossless_clusters_give_what_conv2d_gives() -> None:
    layer = layer_with(EXACT)
    x = (0.3 * smooth_images(2, 16, 10)).round()
    for found, wanted in zip(gradients(layer, x), gradients(layer.to_conv(), x), strict=True):
        if found.shape == x.shape:
            continue  # the input's delta is averaged over equal vectors
        assert relative_error(found.numpy(), wanted.numpy()) < 1e-5
    assert layer.counts.remaining_ratio < 0.9
    through = layer_with(EXACT, gradient="straight_through")
    assert relative_error(gradients(through, x)[1].numpy(), gradients(layer.to_conv(), x)[1].numpy()) < 1e-5


def test_its_state_is_that_of_conv2d() -> None:
    layer, conv = layer_with(), nn.Conv2d(16, 12, 3, padding=1)
    conv.load_state_dict(layer.state_dict())
    layer.load_state_dict(conv.state_dict())
    assert torch.equal(conv.weight, layer.weight)
    soft = layer_with(soft_hash=1.0)
    assert soft.state_dict().keys() == conv.state_dict().keys()
    soft.load_state_dict(conv.state_dict())
    assert len(list(soft.parameters())) == 3


def test_it_has_the_very_parameters_of_the_convolution() -> None:
    conv = nn.Conv2d(16, 12, 3)
    layer = ReuseConv2d.of(conv, CHANNEL)
    assert layer.weight is conv.weight and layer.bias is conv.bias
    back = layer.to_conv()
    assert back.weight is conv.weight and type(back) is nn.Conv2d and str(back) == str(conv)


def test_threads_do_not_change_results() -> None:
    layer, x, before = layer_with(), smooth_images(3, 16, 12), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradients(layer, x)
        torch.set_num_threads(3)
        assert all(torch.equal(a, b) for a, b in zip(one, gradients(layer, x), strict=True))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("settings", [CHANNEL, make_settings(family="sign", layout="patch", L=20, H=8)])
def test_pixel_major_tensors_stay_so_and_give_the_same(settings: LayerSettings) -> None:
    layer, x = layer_with(settings), smooth_images(3, 16, 12)
    planes = gradients(layer, x)
    pixels = gradients(layer, x.to(memory_format=torch.channels_last))
    assert pixels[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(planes[0], pixels[0])
    assert relative_error(pixels[1].numpy(), planes[1].numpy()) < 1e-6
    assert relative_error(pixels[2].numpy(), planes[2].numpy()) < 1e-6


def test_tensors_are_not_copied_on_their_way_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from reuse_compiler.runtime import capi

    library, seen = capi.layer_library(), {}

    class Watched:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any) -> Any:
                seen[name] = arguments
                return getattr(library, name)(*arguments)

            return call

    monkeypatch.setattr(capi, "layer_library", Watched)
    layer, x = layer_with(), smooth_images(3, 16, 12)
    y = layer(x)
    assert seen["reuse_cluster"][4] == x.data_ptr()
    assert seen["reuse_forward"][1:3] == (layer.weight.data_ptr(), layer.bias.data_ptr())
    assert seen["reuse_forward"][4] == y.data_ptr()
    delta = torch.randn_like(y)
    y.backward(delta)
    assert seen["reuse_backward"][2] == delta.data_ptr()


def test_a_layer_is_made_ready_once_for_inputs_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    from reuse_compiler.runtime import capi
    from reuse_compiler.training import library_clusters

    library, calls = capi.layer_library(), []

    class Counted:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("reuse_plan"):
                calls.append(name)
            return getattr(library, name)

    monkeypatch.setattr(capi, "layer_library", Counted)
    layer = layer_with()
    for batch, size in [(1, 9), (3, 12), (2, 9)]:
        layer(smooth_images(batch, 16, size))
    assert calls == ["reuse_plan_create", "reuse_plan_destroy"], calls  # the latter is asked for, not yet called
    parameters = id(layer.parameters_of_hash)
    assert len(library_clusters._plans[parameters]) == 1
    layer.set_settings(layer.settings)  # new parameters
    gc.collect()
    assert parameters not in library_clusters._plans
    layer(smooth_images(1, 16, 9))
    assert calls.count("reuse_plan_create") == 2


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32", "float64"])
def test_exact_codes_of_any_precision_and_odd_lengths(precision: str) -> None:
    vectors = torch.tensor([[1, 2, 3, 9], [1, 2, 3, 8], [1, 2, 4, 9]]).to(getattr(torch, precision))
    no_parameters: Any = None
    first, second, third = _exact(vectors, no_parameters, 3).tolist()  # the fourth is padding
    assert first == second != third


def test_under_autocast_it_computes_in_float32() -> None:
    layer, x = layer_with(), smooth_images(3, 16, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.bfloat16())
    assert y.dtype == torch.float32
    assert torch.equal(y, layer(x.bfloat16().float()))


def test_without_reuse_it_is_conv2d() -> None:
    layer, x = layer_with(), smooth_images(2, 16, 9)
    layer.reuse = False
    assert torch.equal(layer(x), layer.to_conv()(x))
    assert layer_with()(x[:0]).shape == (0, 12, 9, 9)


def test_only_training_is_counted() -> None:
    layer, x = layer_with(), smooth_images(2, 16, 9)
    layer(x)
    layer.eval()(x)
    counts = layer.counts
    assert (counts.runs, counts.rows, counts.blocks) == (1, 162, 2)
    assert counts.clusters == layer.clusters_of(x).count
    assert 0.0 < counts.remaining_ratio == counts.clusters / 324


def test_cluster_reuse_keeps_the_centroids_of_the_batch_that_made_them() -> None:
    layer = layer_with()
    first, second = smooth_images(2, 16, 9, seed=1), smooth_images(2, 16, 9, seed=2)
    fresh = layer(second)
    layer.cluster_reuse = True
    layer(first)
    assert layer.counts.known == 0
    layer(first)
    assert layer.counts.known == 2 * 162  # all vectors of the second run
    reused = layer(second)
    kept = {
        int(code): layer.clusters_of(first).centroids(0)[i] for i, code in enumerate(layer.clusters_of(first).codes(0))
    }
    own = layer.clusters_of(second)
    layer._memory.recall(own)
    shared = [i for i, code in enumerate(own.codes(0)) if int(code) in kept]
    assert shared and all(torch.equal(own.centroids(0)[i], kept[int(own.codes(0)[i])]) for i in shared)
    assert not torch.equal(fresh, reused)
    layer.cluster_reuse = False
    assert torch.equal(layer(second), fresh)


@pytest.mark.parametrize("layout", ["channel", "patch"])
@pytest.mark.parametrize("kept", [None, 25])
def test_cluster_reuse_is_scope_session_of_the_operators(layout: Any, kept: int | None) -> None:
    """Over batches the same vectors are known, and all have the same centroids, however much is kept."""
    settings = make_settings(family="sign", layout=layout, L=8, H=5)
    layer = layer_with(settings)
    batches = [smooth_images(2, 16, 9, seed=seed) for seed in range(4)]
    batches[1][1, 3, 4, 4] = float("nan")  # whose vectors are never kept
    blocking = layer.blocking(settings, batches[0].shape)
    most = DEFAULT_MEMORY if kept is None else kept * blocking.kept_cluster_bytes
    memory, state = ClusterMemory(most), Kept.nothing(blocking)
    for x in batches:
        clusters = cluster(x, blocking, settings, layer.parameters_of_hash, keep_codes=True)
        known = memory.recall(clusters)
        codes = hash_vectors(x.numpy(), blocking, "sign", layer.parameters_of_hash)
        expected, state = cluster_with_kept(x.numpy(), codes, blocking, state, blocking.kept_cluster_bytes, most)
        assert known == expected.known and len(memory) == state.count
        for block in range(blocking.num_blocks):
            found = clusters.centroids(block)[clusters.ids[block].long()].numpy()
            np.testing.assert_array_equal(found, expected.centroids[block, expected.ids[block]])
    assert known > 0.5 * clusters.ids.numel() or kept is not None
    assert kept is None or len(memory) == kept


def test_new_settings_draw_new_hashes_the_same_ones_for_the_same_name_and_seed() -> None:
    one, other = layer_with(name="a", seed=3), layer_with(name="a", seed=3)
    assert (one.parameters_of_hash.projections == other.parameters_of_hash.projections).all()
    one.set_settings(make_settings(family="sign", layout="patch", L=20, H=9))
    assert one.parameters_of_hash.projections.shape == (8, 20, 9)
    assert one(smooth_images(2, 16, 9)).shape == (2, 12, 9, 9)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"padding_mode": "reflect"}, "padding is 'reflect'"),
        ({"groups": 16, "out_channels": 16}, "depthwise"),
        (
            {"settings": make_settings(family="sign", layout="channel", L=17, H=4)},
            "L=17, but a group has only 16 channels",
        ),
        ({"settings": make_settings(family="learned", layout="channel", L=8, H=4)}, "needs trees"),
        ({"settings": EXACT, "soft_hash": 1.0}, "needs family 'sign'"),
        ({"soft_hash": 0.0}, "temperature above 0"),
        ({"soft_hash": float("nan")}, "temperature above 0"),
        ({"soft_hash": float("inf")}, "temperature above 0"),
    ],
)
def test_what_it_cannot_compute_is_refused(options: dict[str, Any], message: str) -> None:
    plain: dict[str, Any] = {"in_channels": 16, "out_channels": 12, "kernel_size": 3, "settings": CHANNEL}
    plain = {name: value for name, value in plain.items() if name not in options}
    with pytest.raises(ConfigError, match=message):
        ReuseConv2d(**plain, **options)


def test_wrong_inputs_and_parameters_are_refused() -> None:
    with pytest.raises(DataError, match=r"\[16, 9, 9\]"):
        layer_with()(torch.zeros(16, 9, 9))
    with pytest.raises(ConfigError, match="has shape"):
        layer_with().set_settings(CHANNEL, HashParameters(projections=torch.zeros(1, 8, 7).numpy()))
    with pytest.raises(ConfigError, match="cluster reuse"):
        layer_with(EXACT).cluster_reuse = True
    reusing = layer_with()
    reusing.cluster_reuse = True
    with pytest.raises(ConfigError, match="cluster reuse"):
        reusing.set_settings(EXACT)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scope, capacity, metric", [("batch", 1.0, "euclidean"), ("image", 0.1, "angular")])
def test_all_settings_give_the_same_in_the_library_and_in_pytorch(
    family: Any, scope: str, capacity: float, metric: str
) -> None:
    from reuse_compiler.training.library_clusters import LibraryClusters
    from reuse_compiler.training.torch_clusters import TorchClusters

    settings = make_settings(family=family, layout="channel", L=6, H=5, scope=scope, capacity=capacity, metric=metric)
    x = smooth_images(3, 16, 9).round(decimals=1)
    x[0, 0, 0, 0] = float("nan")
    layer = layer_with()
    parameters = HashParameters()
    if family == "learned":
        parameters = random_trees(3, 4)
        layer.set_settings(settings, parameters)
    else:
        layer.set_settings(settings)
        parameters = layer.parameters_of_hash
    blocking = layer.blocking(settings, x.shape)
    library = LibraryClusters(x, blocking, settings, parameters, False)
    own = TorchClusters.of(x, blocking, settings, parameters)
    assert torch.equal(library.ids, own.ids.int())
    for block in range(blocking.num_blocks):
        assert torch.equal(library.members(block), own.members(block).int())
        torch.testing.assert_close(library.centroids(block), own.centroids(block), rtol=1e-6, atol=1e-6, equal_nan=True)
