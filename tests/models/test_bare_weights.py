"""Reading weights without names: the forms of ncnn, darknet's header, and files that do not have what is asked for."""

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bare_weights import FLOAT16, FLOAT32, DarknetWeights, NcnnWeights


def layer(form: int, weight: NDArray[np.floating], bias: NDArray[np.float32]) -> bytes:
    """What ncnn writes of a convolution: the form, the weights, filled up to a multiple of four bytes, the bias."""
    content = weight.tobytes()
    return struct.pack("<I", form) + content + bytes(-len(content) % 4) + bias.tobytes()


def test_reads_both_forms_of_ncnn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    half, single = rng.standard_normal((3, 1, 3, 3)).astype(np.float16), rng.standard_normal((2, 3)).astype(np.float32)
    biases = rng.standard_normal(3).astype(np.float32), rng.standard_normal(2).astype(np.float32)
    assert half.nbytes % 4  # so that there is something to skip
    path = tmp_path / "weights.bin"
    path.write_bytes(layer(FLOAT16, half, biases[0]) + layer(FLOAT32, single, biases[1]))
    weights = NcnnWeights(path)
    for weight, bias in ((half, biases[0]), (single, biases[1])):
        np.testing.assert_array_equal(weights.weight(*weight.shape), weight.astype(np.float32))
        np.testing.assert_array_equal(weights.array(len(bias)), bias)
    weights.end()


def test_files_of_ncnn_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    content = layer(FLOAT32, np.ones((2, 2), np.float32), np.ones(2, np.float32))
    path.write_bytes(content)
    weights = NcnnWeights(path)
    weights.weight(2, 2)
    with pytest.raises(ValueError, match=r"weights\.bin: 8 bytes more"):
        weights.end()
    with pytest.raises(ValueError, match=r"weights\.bin ends after 28 bytes"):
        weights.array(3)
    path.write_bytes(struct.pack("<I", 0x0002C056) + content)
    with pytest.raises(ValueError, match="in the form 0x2c056 at byte 0"):
        NcnnWeights(path).weight(2, 2)


def test_weights_of_darknet_follow_its_header(tmp_path: Path) -> None:
    path, values = tmp_path / "net.weights", np.arange(6, dtype=np.float32)
    path.write_bytes(struct.pack("<3iq", 0, 2, 0, 32_013_312) + values.tobytes())
    weights = DarknetWeights(path)
    np.testing.assert_array_equal(weights.array(2), [0, 1])
    np.testing.assert_array_equal(weights.array(2, 2), [[2, 3], [4, 5]])
    weights.end()
    path.write_bytes(struct.pack("<3iq", 0, 1, 0, 0))
    with pytest.raises(ValueError, match=r"net\.weights is of darknet 0\.1, not 0\.2"):
        DarknetWeights(path)
