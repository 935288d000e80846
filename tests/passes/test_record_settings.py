"""A compiled model tells how it was made, without telling where."""

from __future__ import annotations

import json
from pathlib import Path

from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import ReuseConfig
from tests.passes.models import conv_model


def metadata(model: object) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}  # type: ignore[attr-defined]


def test_settings_can_be_used_as_a_configuration() -> None:
    model = conv_model()
    model.metadata_props.add(key="author", value="A")
    found = metadata(lower(model, CompileOptions(family="sign", num_hashes=5, force=True)).model)
    assert found["author"] == "A" and found["reuse.version"]
    layers = json.loads(found["reuse.layers"])
    assert layers["conv"] == {
        "family": "sign", "layout": "channel", "L": 4, "H": 5, "scope": "batch", "capacity": 1.0, "metric": "euclidean",
        "table": "float",
    }  # fmt: skip
    config = ReuseConfig.model_validate({"layers": layers})
    again = metadata(lower(model, CompileOptions(), config).model)
    assert json.loads(again["reuse.layers"]) == layers


def test_options_are_recorded_without_folders() -> None:
    config = ReuseConfig.model_validate({"layers": {"conv": {"layout": "channel", "L": 4, "H": 5}}})
    options = CompileOptions(config=Path("/home/somebody/net.reuse.json"), seed=3, shapes={"x": (1, 4, 8, 8)})
    found = metadata(lower(conv_model(), options, config).model)
    assert json.loads(found["reuse.options"]) == {"config": "net.reuse.json", "seed": 3, "shapes": {"x": [1, 4, 8, 8]}}


def test_older_records_are_replaced() -> None:
    model = conv_model()
    model.metadata_props.add(key="reuse.version", value="old")
    result = lower(model, CompileOptions(force=True)).model
    keys = [entry.key for entry in result.metadata_props]
    assert sorted(keys) == ["reuse.layers", "reuse.options", "reuse.version"]
    assert metadata(result)["reuse.version"] != "old"


def test_a_model_that_is_not_rewritten_gets_no_record() -> None:
    assert not metadata(lower(conv_model(), CompileOptions(exclude="conv")).model)
