"""Trees that follow the data while training runs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from reuse_compiler.errors import DataError  # noqa: E402
from reuse_compiler.reuse.config import make_settings  # noqa: E402
from reuse_compiler.training import HashRefit, convert  # noqa: E402
from reuse_compiler.training.evaluation import trying  # noqa: E402
from reuse_compiler.training.refit import fit_to  # noqa: E402
from tests.training.networks import small_network, smooth_images  # noqa: E402

SETTINGS = {"3": make_settings(family="learned", layout="channel", L=8, H=7)}


def test_hashes_are_fitted_every_so_often_to_the_last_inputs() -> None:
    model = small_network()
    layer = convert(model, smooth_images(16, 3, 12), SETTINGS).layers["3"]
    refit = HashRefit({"3": layer}, every=4, batches=2)
    first, fitted = layer.parameters_of_hash.thresholds, []
    other = 3.0 + 2.0 * smooth_images(16, 3, 12, seed=5)

    def error() -> float:
        model.eval()
        x = model[2](model[1](model[0](other)))
        clusters = layer.clusters_of(x)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, 2, 8).permute(1, 0, 2)
        off = [pixels[b] - clusters.centroids(b)[clusters.ids[b].long()] for b in range(2)]
        model.train()
        return float(torch.stack(off).norm())

    for _ in range(3):
        model(other)  # moves running statistics
    before = error()
    for _ in range(8):
        model(other)
        fitted.append(refit.step())
    assert fitted == [False, False, False, True] * 2
    assert (layer.parameters_of_hash.thresholds != first).any()
    assert error() < before
    refit.close()
    model(other)
    assert not refit._kept["3"]


def test_evaluation_is_not_sampled_and_layers_without_reuse_are_left_alone() -> None:
    model = small_network()
    layer = convert(model, smooth_images(16, 3, 12), SETTINGS).layers["3"]
    refit, before = HashRefit({"3": layer}, every=1, batches=1), layer.parameters_of_hash
    model.eval()(smooth_images(16, 3, 12, seed=1))
    refit.step()
    assert layer.parameters_of_hash is before
    layer.reuse = False
    model.train()(smooth_images(16, 3, 12, seed=1))
    refit.step()
    assert layer.parameters_of_hash is before


def test_its_count_of_steps_is_kept_in_checkpoints() -> None:
    refit = HashRefit({}, every=3)
    refit.step()
    other = HashRefit({}, every=3)
    other.load_state_dict(refit.state_dict())
    assert [other.step(), other.step()] == [False, True]
    with pytest.raises(DataError, match="at least 1"):
        HashRefit({}, every=0)


def test_hashes_are_fitted_to_what_the_present_mode_gives() -> None:
    """While running statistics lag behind, as at the beginning, the modes give a layer other inputs."""
    torch.manual_seed(0)
    x = smooth_images(16, 8, 12) * 10 + 5
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 3))
    settings = {"1": make_settings(family="learned", layout="channel", L=8, H=6)}
    layers, before = convert(model, x, settings).layers, model[0].running_mean.clone()
    errors = []
    for training in (True, False):
        fit_to(model.train(training), layers, settings, [x])
        assert torch.equal(model[0].running_mean, before) and model[0].training == training
        with torch.no_grad(), trying(model.train()):
            own, wanted = model(x), layers["1"].to_conv()(model[0](x))
        errors.append(float((own - wanted).norm() / wanted.norm()))
    assert errors[0] < 0.9 * errors[1]
