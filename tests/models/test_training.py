"""What the training script stores computes what was trained; augmentation keeps pixels and pairs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import builders

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")


@pytest.mark.parametrize("network", builders.TRAINABLE)
def test_folded_weights_compute_the_trained_network(
    network: str, tmp_path: Path, run_model: Callable[..., Any]
) -> None:
    from models import train

    torch.manual_seed(0)
    net = train.trainable(network, dropout=0.2)
    net.train()
    for _ in range(3):  # moves the running statistics away from their initial zeros and ones
        net(torch.randn(16, 3, 32, 32) * 2 + 1)
    net.eval()
    assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 10)  # small images, for the beginning of training
    x = torch.randn(4, 3, 32, 32)
    train.store(train.folded_weights(net), tmp_path / "weights.npz")
    logits = run_model(builders.cifar_network(network, builders.load_weights(tmp_path / "weights.npz")), x.numpy())
    np.testing.assert_allclose(logits, net(x).detach().numpy(), rtol=0, atol=5e-3)  # weights are rounded to float16


def test_weights_in_integers_are_within_half_a_step_or_clipped(tmp_path: Path) -> None:
    from models import train

    random = np.random.default_rng(0)
    weight = random.standard_normal((6, 5, 3, 3)).astype(np.float16) * np.logspace(-3, 1, 6).reshape(6, 1, 1, 1)
    weight[2] = 0.0
    weights = {"conv1.weight": weight.astype(np.float16), "conv1.bias": np.ones(6, np.float16)}
    stored = train.in_integers(weights, bits=5)
    train.store(stored, tmp_path / "weights.npz")
    found = builders.load_weights(tmp_path / "weights.npz")
    assert found.keys() == weights.keys() and np.array_equal(found["conv1.bias"], weights["conv1.bias"])
    assert stored["conv1.weight"].dtype == np.int8 and np.abs(stored["conv1.weight"]).max() == 15
    step = stored["conv1.weight.scale"].reshape(6, 1, 1, 1)
    error = np.abs(found["conv1.weight"] - weights["conv1.weight"])
    assert np.all((error <= step * 0.501) | (np.abs(stored["conv1.weight"]) == 15))
    wide = np.abs(weights["conv1.weight"]).astype(np.float32).max((1, 2, 3)) / 15
    plain = np.abs(
        weights["conv1.weight"]
        - np.rint(weights["conv1.weight"] / np.maximum(wide, 1e-9).reshape(step.shape)) * wide.reshape(step.shape)
    )
    assert np.square(error).sum() <= np.square(plain).sum()  # no worse than without clipping


def test_augmented_images_are_crops_of_the_padded_ones_or_their_mirror_images() -> None:
    from models import train

    padded = torch.arange(20 * 3 * 12 * 12).reshape(20, 3, 12, 12)
    cropped = train.augment(padded, torch.Generator().manual_seed(0))
    assert cropped.shape == (20, 3, 4, 4)
    windows = padded.unfold(2, 4, 1).unfold(3, 4, 1)  # [N, 3, 9, 9, 4, 4]
    for image, candidates in zip(cropped, windows, strict=True):
        both = torch.stack([candidates, candidates.flip(-1)])
        assert (both == image[None, :, None, None]).all(dim=(1, 4, 5)).any()
