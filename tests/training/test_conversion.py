"""Converting a model and back: which layers, with which settings, what stays the same."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor, nn  # noqa: E402

from reuse_compiler.errors import ConfigError  # noqa: E402
from reuse_compiler.reuse.config import make_settings  # noqa: E402
from reuse_compiler.training.conversion import convert, dense, reuse_layers, revert, specs_of  # noqa: E402
from reuse_compiler.training.layer import ReuseConv2d  # noqa: E402
from reuse_compiler.training.state import load_reuse_state, reuse_state  # noqa: E402
from tests.training.networks import small_network, smooth_images  # noqa: E402


class Branches(nn.Module):
    """Executed in another order than declared; with what cannot be converted."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(8, 8, 3)
        self.first = nn.Conv2d(3, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.unused = nn.Conv2d(8, 8, 3)
        self.again = self.second

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.mirrored(self.depthwise(self.again(self.second(self.first(x)))))
        return result


def test_all_that_can_be_converted_is_and_the_rest_says_why() -> None:
    model = Branches()
    conversion = convert(model, smooth_images(4, 3, 14))
    assert list(conversion.layers) == ["first", "second"]
    assert model.again is model.second is conversion.layers["second"]
    assert "depthwise" in conversion.dense["depthwise"]
    assert "reflect" in conversion.dense["mirrored"]
    assert "does not come by" in conversion.dense["unused"]
    # The first that is executed is the first layer, for which Amendment 1 does not hold.
    assert conversion.candidates["first"][-1].sub_vector_length == 3
    assert conversion.layers["first"].settings == conversion.candidates["first"][0]


def test_reverting_gives_the_model_back() -> None:
    model, x = small_network(), smooth_images(4, 3, 12)
    before, text, parameters = model.eval()(x), str(model), list(model.parameters())
    state = {key: value.clone() for key, value in model.state_dict().items()}
    convert(model, x)
    assert len(reuse_layers(model)) == 2
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert not torch.equal(model(x), before)
    with dense(model):
        assert torch.equal(model(x), before)
    assert reuse_layers(model)["0"].reuse
    revert(model)
    assert str(model) == text and torch.equal(model(x), before)


def test_modes_and_running_statistics_stay_what_they_were() -> None:
    model = small_network()
    model[1].eval()
    mean = model[1].running_mean.clone()
    convert(model, smooth_images(4, 3, 12))
    assert model.training and model[0].training and not model[1].training
    assert torch.equal(model[1].running_mean, mean)


@pytest.mark.parametrize(
    "layers, names",
    [("3", ["3"]), (["0"], ["0"]), ({"3": make_settings(family="sign", layout="channel", L=4, H=5)}, ["3"])],
)
def test_layers_can_be_chosen(layers: Any, names: list[str]) -> None:
    model = small_network()
    conversion = convert(model, smooth_images(4, 3, 12), layers)
    assert list(conversion.layers) == names
    assert all("not asked for" in reason for reason in conversion.dense.values())
    if isinstance(layers, dict):
        assert conversion.layers["3"].settings == layers["3"]


def test_names_that_are_not_there_and_layers_that_cannot_are_refused() -> None:
    with pytest.raises(ConfigError, match="no convolution 7; it has 0, 3"):
        convert(small_network(), smooth_images(4, 3, 12), ["7"])
    with pytest.raises(ConfigError, match="'depthwise' cannot be converted"):
        convert(Branches(), smooth_images(4, 3, 14), ["depthwise"])
    assert "whole model" in convert(nn.Conv2d(3, 8, 3), smooth_images(4, 3, 14)).dense[""]


def test_learned_layers_begin_with_trees_fitted_to_the_example() -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    settings = make_settings(family="learned", layout="channel", L=8, H=8)
    assert convert(small_network(), x, family="learned").layers["3"].settings.family == "learned"
    layer = convert(model, x, {"3": settings}).layers["3"]
    own = layer.clusters_of(model[2](model[1](model[0](x))))
    assert 32 < own.count / own.blocking.num_blocks <= 64  # leaves of a tree of depth 8


def test_geometries_are_those_of_the_execution() -> None:
    found = specs_of(small_network(), smooth_images(4, 3, 12))
    assert list(found) == ["0", "3"]
    assert (found["3"].in_height, found["3"].strides, found["3"].out_width) == (12, (2, 2), 6)


def test_a_checkpoint_brings_settings_and_hashes_back(tmp_path: Any) -> None:
    x = smooth_images(16, 3, 12)
    model = small_network()
    layers = convert(model, x, family="learned").layers
    layers["0"].reuse = False
    layers["3"].cluster_reuse = True
    torch.save({"model": model.state_dict(), "reuse": reuse_state(model)}, tmp_path / "checkpoint.pt")
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    other = small_network(seed=1)
    convert(other, x)
    other.load_state_dict(checkpoint["model"])
    load_reuse_state(other, checkpoint["reuse"])
    own = reuse_layers(other)
    assert (own["0"].reuse, own["3"].cluster_reuse, own["3"].settings) == (False, True, layers["3"].settings)
    own["3"].cluster_reuse = layers["3"].cluster_reuse = False
    assert torch.equal(model.eval()(x), other.eval()(x))
    with pytest.raises(ConfigError, match="the state is of layers"):
        load_reuse_state(Branches(), checkpoint["reuse"])


def test_a_converted_layer_is_a_convolution_still() -> None:
    model = small_network()
    convert(model, smooth_images(4, 3, 12))
    assert isinstance(model[0], ReuseConv2d) and isinstance(model[0], nn.Conv2d)
    assert "it has reuse already" in convert(model, smooth_images(4, 3, 12)).dense["0"]
