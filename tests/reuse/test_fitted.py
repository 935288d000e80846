from pathlib import Path

import numpy as np
import pytest

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import ReuseConfig, make_settings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.fitted import Fitted, load_fitted
from reuse_compiler.reuse.plan import LayerWeights

CONFIG = ReuseConfig(
    layers={"a/conv": make_settings(family="learned", layout="channel", L=4, H=2)}, parameters_file="p.npz"
)


def trees() -> HashParameters:
    return HashParameters(thresholds=np.ones((2, 3), np.float32), coordinates=np.zeros((2, 3), np.int32))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    weights = LayerWeights(np.ones((2, 8, 1, 1), np.float32), np.zeros(2, np.float32))
    centroids = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    own = Fitted({"a/conv": trees()}, {"a/conv": weights}, {"a/conv": centroids})
    (tmp_path / "p.npz").write_bytes(own.to_bytes())
    read = load_fitted(CONFIG, tmp_path / "config.json")
    assert read.parameters.keys() == read.weights.keys() == {"a/conv"}
    for name, array in trees().items():
        np.testing.assert_array_equal(getattr(read.parameters["a/conv"], name), array)
    np.testing.assert_array_equal(read.weights["a/conv"].weight, weights.weight)
    np.testing.assert_array_equal(read.weights["a/conv"].bias, weights.bias)
    np.testing.assert_array_equal(read.centroids["a/conv"], centroids)


def test_weights_without_a_bias_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", allow_pickle=False, **{"a/conv/weight": np.ones((2, 8, 1, 1))})
    with pytest.raises(ConfigError, match="must both be given"):
        load_fitted(CONFIG, tmp_path / "config.json")


@pytest.mark.parametrize("value", [2**32 + 3, -(2**31) - 1, 0.5, np.nan])
def test_coordinates_that_are_no_integers_of_32_bits_are_refused(tmp_path: Path, value: float) -> None:
    arrays = {"a/conv/thresholds": np.ones((2, 3)), "a/conv/coordinates": np.full((2, 3), value)}
    np.savez(tmp_path / "p.npz", allow_pickle=False, **arrays)
    with pytest.raises(ConfigError, match="'a/conv/coordinates' has numbers that are no int32"):
        load_fitted(CONFIG, tmp_path / "config.json")


def test_equal_arrays_give_equal_bytes() -> None:
    assert Fitted({"a/conv": trees()}).to_bytes() == Fitted({"a/conv": trees()}).to_bytes()


@pytest.mark.parametrize("name", ["thresholds", "projections", "centroids"])
def test_parameters_that_are_no_number_are_refused(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", allow_pickle=False, **{f"a/conv/{name}": np.array([0.5, np.nan])})
    with pytest.raises(ConfigError, match=f"'a/conv/{name}' holds NaN"):
        load_fitted(CONFIG, tmp_path / "config.json")
    np.savez(tmp_path / "p.npz", allow_pickle=False, **{f"a/conv/{name}": np.array([0.5, np.inf])})
    assert f"a/conv/{name}" in load_fitted(CONFIG, tmp_path / "config.json").arrays()
