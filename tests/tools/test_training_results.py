"""The page of training results, and the PyTorch form of ONNX networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import builders

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from reuse_compiler.benchmark.report import describe_machine  # noqa: E402
from reuse_compiler.reports.json_file import write_report  # noqa: E402
from reuse_compiler.training.onnx_module import OnnxModule  # noqa: E402
from tools.training_results.__main__ import without_places  # noqa: E402
from tools.training_results.page import write_page  # noqa: E402
from tools.training_results.results import LayerTime, LayerTimes, StepTime, Strategies, Tuning, result_path  # noqa: E402


def test_an_onnx_network_computes_the_same_in_pytorch() -> None:
    import onnxruntime

    model = builders.trained("cifar_vgg")
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)
    module = OnnxModule(model).eval()
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-4)
    assert set(module.names.values()) == {f"conv{block}_{index}" for block in (1, 2, 3) for index in (1, 2)}


def test_commands_are_shown_without_the_places_of_one_machine() -> None:
    command = "python -m models.train cifarnet --epochs 2 --output /there/w.npz --log '/there too' --strategy 2"
    assert without_places(command) == "python -m models.train cifarnet --epochs 2 --strategy 2"


def test_the_page_shows_what_is_there(tmp_path: Path) -> None:
    assert "## " not in write_page(tmp_path).read_text(encoding="utf-8")
    common: dict[str, Any] = {"command": "python -m it", "machine": describe_machine()}
    time = LayerTime(
        layer="net conv2", setting="sign, channel, L=16, H=12", r_c=0.05, dense_forward_ms=30.0, dense_weight_ms=29.0,
        dense_backward_ms=60.0, forward_ms=10.0, cluster_ms=4.0, weight_ms=15.0, backward_ms=20.0, counted=0.125,
    )  # fmt: skip
    steps = [
        StepTime(network=network, setting=setting, ms=ms)
        for network, ms in (("net", 400.0), ("vgg", 800.0))
        for setting, ms in (("without reuse", ms), ("L=8, H=11", 300.0))
    ]
    times = LayerTimes(**common, threads=1, rounds=5, layers=[time], steps=steps)
    write_report(times, result_path(tmp_path, "layers"), False)
    run: dict[str, Any] = {
        "steps": 100,
        "test_accuracy": 0.75,
        "thread_seconds": 200.0,
        "seed": 0,
        "command": "python -m models.train cifarnet",
    }
    reuse = run | {"test_accuracy": 0.73, "thread_seconds": 110.0, "operations_saved": 0.8}
    again = reuse | {"test_accuracy": 0.75, "thread_seconds": 130.0, "operations_saved": 0.6, "seed": 1}
    longer = reuse | {"steps": 150, "operations_saved": 0.7, "test_accuracy": 0.74}
    run["curve"] = [(4.0, 2.25), (9.5, 1.5)]
    runs = {"none": [run], "s1": [longer], "s2": [reuse, again]}
    strategies = Strategies(**common, network="cifarnet", runs=runs)
    write_report(strategies, result_path(tmp_path, "strategies_cifarnet"), False)
    tuning = Tuning(
        **common, network="vgg", setting="L=16", metric="top-1", original=0.87, as_is=0.1, reconstructed=0.7, tuned=0.8,
        losses=(3.0, 1.0, 0.5), seconds=9.0,
    )  # fmt: skip
    write_report(tuning, result_path(tmp_path, "tune_vgg"), False)
    edges = tuning.model_copy(
        update={"network": "hed", "metric": "PSNR", "original": float("inf"), "tuned": 33.3, "compiled": 33.2}
    )
    write_report(edges, result_path(tmp_path, "tune_hed"), False)
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert "| net conv2 | sign, channel, L=16, H=12 | 0.050 | 30.0 + 60.0 (29.0) | 10.0 (4.0) + 20.0 (15.0) |" in page
    assert "| net | L=8, H=11 | 300 | 25% |" in page and "| vgg | L=8, H=11 | 300 | 62% |" in page
    assert "| none | 0 | 2.25 (4) 1.50 (10) |" in page
    assert "| s1 | 150 | 0.7400 | -1.0 | 110 | 55.0% | 45.0% | 38% |" in page  # 1 - 0.3 * 150 / 100
    assert "| s2 | 100 | 0.7400 (0.7300 to 0.7500) | -1.0 | 120 | 70.0% | 40.0% | 63% |" in page
    assert "| vgg | L=16 | top-1 | 0.870 | 0.100 | 0.700 | **0.800** |  |" in page
    assert "| hed | L=16 | PSNR | ∞ | 0.100 | 0.700 | **33.3** | 33.2 |" in page
