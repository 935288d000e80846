"""Small models for verification."""

import onnx
import pytest

from models.builders import SequentialBuilder


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    """Two 3x3 convolutions and a classifier; input `x` [N, 3, 12, 12], output `logits`."""
    net = SequentialBuilder("small", 12, None, seed=0)
    net.conv("conv1", 8, kernel=3, pad=1)
    net.conv("conv2", 16, kernel=3, stride=2, pad=1)
    net.flatten()
    net.fully_connected("fc", 10, relu=False)
    return net.build()
