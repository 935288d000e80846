"""A small network and its compiled forms, made by the real compiler."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.builders import SequentialBuilder
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower

SIZE = 12


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    """Two 3x3 convolutions and a 1x1 one, then a classifier; input `x` [N, 3, SIZE, SIZE], output `logits`."""
    net = SequentialBuilder("small", SIZE, None, seed=0)
    net.conv("conv1", 8, kernel=3, pad=1)
    net.conv("conv2", 16, kernel=3, stride=2, pad=1)
    net.conv("conv3", 8, kernel=1)
    net.flatten()
    net.fully_connected("fc", 10, relu=False)
    return net.build()


@pytest.fixture(scope="session")
def compiled(network: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles the network with the given options (every layer rewritten) and returns its file."""
    folder = tmp_path_factory.mktemp("compiled")

    def compile_with(**options: object) -> Path:
        path = folder / ("-".join(f"{key}={value}" for key, value in options.items()) + ".onnx")
        if not path.exists():
            lowered = lower(network, CompileOptions.model_validate({"force": True} | options))
            assert [layer.decision for layer in lowered.layers] == ["reuse"] * 3
            onnx.save(lowered.model, path)
        return path

    return compile_with


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Six inputs with flat areas, so that clusters have members and still differ from each other."""
    rng = np.random.default_rng(7)
    coarse = rng.standard_normal((6, 3, SIZE // 4, SIZE // 4)).astype(np.float32)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)
