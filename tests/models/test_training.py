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


def test_augmented_images_are_crops_of_the_padded_ones_or_their_mirror_images() -> None:
    from models import train

    padded = torch.arange(20 * 3 * 12 * 12).reshape(20, 3, 12, 12)
    cropped = train.augment(padded, torch.Generator().manual_seed(0))
    assert cropped.shape == (20, 3, 4, 4)
    windows = padded.unfold(2, 4, 1).unfold(3, 4, 1)  # [N, 3, 9, 9, 4, 4]
    for image, candidates in zip(cropped, windows, strict=True):
        both = torch.stack([candidates, candidates.flip(-1)])
        assert (both == image[None, :, None, None]).all(dim=(1, 4, 5)).any()
