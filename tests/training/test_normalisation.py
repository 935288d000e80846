"""Normalisation behind convolutions: it begins as nothing, and is nothing but weights and biases in the end."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import nn  # noqa: E402

from reuse_compiler.training.normalisation import OutputNorms  # noqa: E402
from tests.training.networks import small_network, smooth_images  # noqa: E402


def test_outputs_of_the_first_batches_stay_as_they_are() -> None:
    model, x = small_network().eval(), smooth_images(64, 3, 12)
    with torch.no_grad():
        before = model(x)
        OutputNorms(model, [x])
        assert len(model[0]._forward_hooks) == len(model[3]._forward_hooks) == 1 and not model[6]._forward_hooks
        torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(model(3.0 * x[:16]), model(x[:16]) * 3.0, rtol=0.1)


def test_whatever_a_convolution_makes_of_its_scale_its_output_keeps_it() -> None:
    model, x = small_network().eval(), smooth_images(64, 3, 12)
    norms = OutputNorms(model, [x])
    with torch.no_grad():
        before = model(x)
        model[3].weight.mul_(5.0)
        torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-3)
    names = {name for name, _ in model.named_parameters()}
    assert len(norms.parameters()) == 4 and names == {name for name, _ in small_network().named_parameters()}


def test_it_is_folded_into_weights_and_biases() -> None:
    model, x = small_network().eval(), smooth_images(64, 3, 12)
    norms = OutputNorms(model, [x])
    with torch.no_grad():
        for own in norms.parameters():
            own.add_(torch.randn(own.shape), alpha=0.2)
        expected = model(x)
        norms.fold([x[:32], x[32:]])
        assert not model[0]._forward_hooks and not model[3]._forward_hooks
        assert isinstance(model[3].bias, nn.Parameter)
        found = model(x)
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_convolutions_that_are_not_run_or_do_not_learn_are_left_alone() -> None:
    model, x = small_network().eval(), smooth_images(16, 3, 12)
    model[5].aside = nn.Conv2d(1, 1, 1)
    model[0].requires_grad_(False)
    norms = OutputNorms(model, [x])
    assert model[3]._forward_hooks and not model[5].aside._forward_hooks and not model[0]._forward_hooks
    norms.fold([x])
    assert torch.equal(model[0].weight, small_network()[0].weight)
