"""Reads weights that a file has one after the other, without names or sizes, as ncnn and darknet write them."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FLOAT32, FLOAT16 = 0x00000000, 0x01306B47
"""What ncnn writes before the weights of a layer: in which form they follow."""
NCNN_ALIGNMENT = 4
DARKNET_VERSION = 0, 2
"""From this version on the header has 20 bytes: version, revision, and how many images were seen, in 64 bits."""


class BareWeights:
    """Arrays of float32 in the order of the file; raises ValueError if they do not fit what it has."""

    def __init__(self, path: Path) -> None:
        self._name, self._content, self._place = path.name, path.read_bytes(), 0

    def array(self, *shape: int) -> NDArray[np.float32]:
        """The next array."""
        return np.frombuffer(self._take(4 * int(np.prod(shape))), "<f4").reshape(shape)

    def end(self) -> None:
        """Raises ValueError if there is more."""
        if rest := len(self._content) - self._place:
            raise ValueError(f"{self._name}: {rest} bytes more than the network has weights")

    def _take(self, count: int) -> bytes:
        taken = self._content[self._place : self._place + count]
        if len(taken) != count:
            raise ValueError(f"{self._name} ends after {len(self._content)} bytes, in the middle of the weights")
        self._place += count
        return taken


class NcnnWeights(BareWeights):
    """A .bin file of ncnn; biases are bare arrays."""

    def weight(self, *shape: int) -> NDArray[np.float32]:
        """The weights of a layer, in the form that is said before them."""
        (form,) = struct.unpack("<I", self._take(4))
        if form == FLOAT32:
            return self.array(*shape)
        if form != FLOAT16:
            raise ValueError(f"{self._name}: weights in the form {form:#x} at byte {self._place - 4}")
        size = 2 * int(np.prod(shape))
        values = np.frombuffer(self._take(size), "<f2").reshape(shape)
        self._take(-size % NCNN_ALIGNMENT)
        return values.astype(np.float32)


class DarknetWeights(BareWeights):
    """A .weights file of darknet."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        major, minor, *_ = struct.unpack("<3iq", self._take(20))
        if (major, minor) != DARKNET_VERSION:
            raise ValueError(f"{self._name} is of darknet {major}.{minor}, not {'.'.join(map(str, DARKNET_VERSION))}")
