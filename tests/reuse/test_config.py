"""Configuration files: what is read, and what is refused with which sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import ReuseConfig, make_settings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.fitted import load_fitted
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.reuse.plan import check_parameters

LAYER = {"layout": "channel", "L": 16, "H": 8}


def write(folder: Path, content: Any) -> Path:
    path = folder / "model.reuse.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_symbols_and_names_mean_the_same(tmp_path: Path) -> None:
    config = ReuseConfig.load(write(tmp_path, {"layers": {"conv1": LAYER}}))
    named = make_settings(layout="channel", sub_vector_length=16, num_hashes=8)
    assert config.layers["conv1"] == named
    assert (named.family, named.scope, named.capacity) == ("sign", "batch", 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ({"layers": {"c": LAYER | {"L": 0}}}, "layers.c.L: Input should be greater than or equal to 1"),
        ({"layers": {"c": LAYER | {"H": 65}}}, "layers.c.H: Input should be less than or equal to 64"),
        (
            {"layers": {"c": LAYER | {"H": 17, "family": "learned"}}},
            "H=17 is too large: family 'learned' takes at most 16",
        ),
        (
            {"layers": {"c": LAYER | {"family": "pstable"}}},
            "layers.c.family: Input should be 'sign', 'learned'",
        ),
        ({"layers": {"c": LAYER | {"scope": "static", "family": "exact"}}}, "family 'exact' has no codes"),
        ({"layers": {"c": LAYER | {"scope": "static", "H": 17}}}, "H=17 is too large: scope static takes at most 16"),
        ({"layers": {"c": LAYER | {"scope": "static", "capacity": 0.5}}}, "leave capacity at 1"),
        ({"layers": {"c": LAYER | {"scope": "static", "metric": "angular"}}}, "metric at euclidean"),
        ({"layers": {"c": LAYER | {"scope": "session", "table": "int8"}}}, "which needs table float"),
        ({"layers": {"c": LAYER | {"scope": "session", "memory": -1}}}, "greater than or equal to 0"),
        ({"layers": {"c": LAYER | {"memory": 1000}}}, "memory is of clusters that scope session keeps"),
        ({"layers": {"c": LAYER | {"colour": "red"}}}, "layers.c.colour"),
        ({"layers": {"c": LAYER | {"capacity": 0}}}, "capacity"),
        ({"version": 2}, "version"),
        ([], "valid dictionary"),
    ],
)
def test_a_wrong_file_is_refused_with_the_field(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match=message) as refusal:
        ReuseConfig.load(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("own", [{}, {"scope": "static", "table": "int8"}, {"scope": "session", "memory": 5}])
def test_settings_are_written_as_they_are_read(own: dict[str, Any]) -> None:
    """The memory of scope session stands with that scope only."""
    config = ReuseConfig.model_validate({"layers": {"c": LAYER | own}})
    written = json.loads(config.model_dump_json(by_alias=True))
    assert ReuseConfig.model_validate(written) == config
    assert written["layers"]["c"].get("memory") == own.get("memory")


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the configuration .* cannot be read"):
        ReuseConfig.load(tmp_path / "missing.json")
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a JSON text file"):
        ReuseConfig.load(binary)


def test_parameters_are_read_by_layer(tmp_path: Path) -> None:
    path = write(tmp_path, {"layers": {"a/conv": LAYER}, "parameters_file": "p.npz"})
    np.savez(
        tmp_path / "p.npz",
        allow_pickle=False,
        **{"a/conv/thresholds": np.zeros((4, 8)), "a/conv/coordinates": np.zeros((4, 255))},
    )
    parameters = load_fitted(ReuseConfig.load(path), path).parameters["a/conv"]
    assert parameters.thresholds is not None and parameters.thresholds.dtype == np.float32
    assert parameters.coordinates is not None and parameters.coordinates.dtype == np.int32
    assert parameters.projections is None


@pytest.mark.parametrize(
    ("key", "message"), [("conv/weights", "with a name of"), ("other/thresholds", "a layer that .* does not name")]
)
def test_parameters_for_nothing_are_refused(tmp_path: Path, key: str, message: str) -> None:
    path = write(tmp_path, {"layers": {"conv": LAYER}, "parameters_file": "p.npz"})
    np.savez(tmp_path / "p.npz", allow_pickle=False, **{key: np.zeros(3)})
    with pytest.raises(ConfigError, match=message):
        load_fitted(ReuseConfig.load(path), path)


def test_missing_or_pickled_parameters_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"parameters_file": "p.npz"})
    with pytest.raises(ConfigError, match="cannot read the hash parameters"):
        load_fitted(ReuseConfig.load(path), path)
    np.savez(tmp_path / "p.npz", allow_pickle=True, **{"conv/thresholds": np.array([{}], dtype=object)})
    with pytest.raises(ConfigError, match="cannot read the hash parameters"):
        load_fitted(ReuseConfig.load(path), path)


def test_parameters_must_fit_the_layer() -> None:
    blocking = Blocking(ConvSpec(1, 32, 8, 8, 4, (3, 3)), "channel", 16)
    settings = make_settings(layout="channel", L=16, H=3, family="learned")
    fitting: dict[str, Any] = {"thresholds": np.zeros((2, 7), np.float32), "coordinates": np.full((2, 7), 15, np.int32)}
    check_parameters(HashParameters(**fitting), settings, blocking, "conv")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"coordinates": None}, "needs the parameter 'coordinates'"),
        ({"thresholds": np.zeros((2, 8), np.float32)}, r"has shape \(2, 8\), expected \(2, 7\)"),
        ({"coordinates": np.full((2, 7), 16, np.int32)}, "must lie in 0..15"),
    ]
    for change, message in wrong:
        with pytest.raises(ConfigError, match=message):
            check_parameters(HashParameters(**(fitting | change)), settings, blocking, "conv")
    with pytest.raises(ConfigError, match="family 'exact' takes no parameter 'thresholds'"):
        exact = make_settings(layout="channel", L=16, H=3, family="exact")
        check_parameters(HashParameters(**fitting), exact, blocking, "conv")


def test_learned_trees_are_never_drawn() -> None:
    with pytest.raises(ConfigError, match="fitted to samples"):
        FAMILIES["learned"].random_parameters(np.random.default_rng(0), 1, 4, 3)
