"""models.train with strategies: the command line from end to end on a few images, its log, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from models import builders  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with archives of a few images, as JPEG."""
    import io

    from PIL import Image

    random = np.random.default_rng(0)
    for name, count in (("cifar10_train", 96), ("cifar10_test", 100)):
        files = []
        for _ in range(count):
            picture = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).resize((32, 32))
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG")
            files.append(buffer.getvalue())
        offsets = np.cumsum([0, *map(len, files)])
        jpeg = np.frombuffer(b"".join(files), np.uint8)
        np.savez(tmp_path / f"{name}.npz", jpeg=jpeg, offsets=offsets, labels=random.integers(0, 10, count))
    return tmp_path


def run(data: Path, *options: str) -> dict[str, object]:
    import typer

    from models import train

    app = typer.Typer()
    app.command()(train.main)
    words = ["cifarnet", "--data", str(data), "--epochs", "1", "--batch", "16", "--output", str(data / "w.npz")]
    done = CliRunner().invoke(app, [*words, "--log", str(data / "log"), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result: dict[str, object] = json.loads((data / "log" / "training.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.parametrize(
    "options",
    [
        ("--strategy", "1", "--setting", "conv2=16,6", "--setting", "conv1=10,5"),
        ("--strategy", "2", "--layers", "conv2", "--window", "1", "--least-decrease", "0.5", "--dense-last"),
        ("--strategy", "2", "--layers", "conv2", "--window", "1", "--least-decrease", "0.5", "--finest", "16,7"),
        ("--strategy", "3", "--layers", "conv2", "--family", "learned", "--refit", "3"),
        ("--strategy", "1", "--setting", "conv2=16,6", "--setting", "conv1=10,5", "--table", "int8",
         "--gradient", "straight_through"),
    ],
)  # fmt: skip
def test_a_strategy_trains_and_logs(data: Path, options: tuple[str, ...]) -> None:
    for module in ("jinja2", "matplotlib"):
        pytest.importorskip(module, reason="the log's plot needs the extra report")
    result = run(data, *options)
    assert result["steps"] == 6 and result["strategy"] in ("FixedStrategy", "AdaptiveStrategy", "ClusterReuseStrategy")
    layers = result["layers"]
    assert isinstance(layers, dict) and "conv2" in layers
    if options[1] == "1":
        assert (layers["conv2"]["L"], layers["conv2"]["H"], layers["conv1"]["L"]) == (16, 6, 10)
        assert layers["conv2"]["table"] == ("int8" if "int8" in options else "float")
    if options[1] == "2":
        assert result["switches"]
        assert "--finest" not in options or (layers["conv2"]["L"], layers["conv2"]["H"]) == (16, 7)
    with (data / "log" / "training.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["step"] == "6" and float(rows[0]["loss"]) > 0.0
    assert rows[-1]["test_accuracy"]
    assert (data / "log" / "training.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert builders.load_weights(data / "w.npz").keys() >= {"conv1.weight", "fc3.bias"}


@pytest.mark.parametrize("steps, tested_at", [(4, [4]), (8, [6, 8])])
def test_training_may_end_within_an_epoch(data: Path, steps: int, tested_at: list[int]) -> None:
    for module in ("jinja2", "matplotlib"):
        pytest.importorskip(module, reason="the log's plot needs the extra report")
    result = run(data, "--steps", str(steps))
    assert result["steps"] == steps
    with (data / "log" / "training.csv").open(encoding="utf-8") as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["test_accuracy"]] == tested_at


@pytest.mark.parametrize(
    "options, message",
    [
        (("--strategy", "1", "--setting", "conv9=1,2"), "LAYER=L,H"),
        (("--strategy", "1", "--setting", "conv2=16"), "'conv2=16': L,H must be"),
        (("--strategy", "2", "--finest", "8;11"), "two numbers"),
        (("--limit", "10"), "more than the 10 images"),
    ],
)
def test_wrong_settings_are_refused_and_say_how_to_write_them(
    data: Path, options: tuple[str, ...], message: str
) -> None:
    import typer

    from models import train

    app = typer.Typer()
    app.command()(train.main)
    done = CliRunner().invoke(app, ["cifarnet", "--data", str(data), "--batch", "16", *options])
    assert done.exit_code == 2 and message in done.output
