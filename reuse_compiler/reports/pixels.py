"""Pictures as PNG data inside a page: images, and cluster ids in colours that tell neighbours apart."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

GOLDEN_ANGLE = 0.6180339887498949


def cluster_colours(count: int) -> NDArray[np.uint8]:
    """Returns a colour for each id, `[count, 3]`, always the same: hues by the golden angle, three depths in turn."""
    index = np.arange(count)
    hue = (index * GOLDEN_ANGLE) % 1.0
    value = np.array([0.92, 0.62, 0.78])[index % 3]
    saturation = np.array([0.50, 0.62, 0.74, 0.38])[index // 3 % 4]
    offsets = np.array([5.0, 3.0, 1.0])
    k = (offsets + 6.0 * hue[:, None]) % 6.0  # the usual formula from HSV to RGB
    depth = np.minimum(np.minimum(k, 4.0 - k), 1.0).clip(min=0.0)
    rgb = value[:, None] * (1.0 - saturation[:, None] * depth)
    colours: NDArray[np.uint8] = np.rint(255.0 * rgb).astype(np.uint8)
    return colours


def ids_picture(ids: list[list[int]]) -> NDArray[np.uint8]:
    """Returns `[H][W]` cluster ids as RGB, `[H, W, 3]`."""
    array = np.array(ids, np.int64)
    return cluster_colours(int(array.max()) + 1)[array]


def png_url(picture: NDArray[np.uint8]) -> str:
    """Returns an RGB picture `[H, W, 3]` as a data URL."""
    height, width = picture.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, width * 3)], axis=1)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()
