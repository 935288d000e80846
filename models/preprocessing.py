"""What each network expects of its input: from RGB photos to the float32 tensor. No resizing happens here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PerChannel = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """`(image - mean) / scale` per channel, in the network's own channel order and in units of 0..255."""

    mean: PerChannel
    scale: PerChannel = (1.0, 1.0, 1.0)
    order: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    size: tuple[int, int] | None = None
    """Height and width that the network insists on; None: any that `multiple_of` allows."""
    multiple_of: int = 1
    """Height and width must be multiples of this."""

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Equally large photos `[H, W, 3]`, uint8 RGB, to one tensor `[N, 3, H, W]` (or as `layout` says)."""
        if not images:
            raise ValueError("no image given")
        if len({image.shape for image in images}) > 1:
            raise ValueError("images of one batch must have one size")
        batch = np.stack(images)
        self._check(batch)
        if self.order == "BGR":
            batch = batch[..., ::-1]
        mean, scale = np.array(self.mean, np.float32), np.array(self.scale, np.float32)
        scaled = (batch.astype(np.float32) - mean) / scale
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if self.layout == "NCHW" else scaled)

    def _check(self, batch: NDArray[np.uint8]) -> None:
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3:
            raise ValueError(f"expected uint8 images [H, W, 3], got {batch.dtype} {list(batch.shape[1:])}")
        height, width = batch.shape[1:3]
        if self.size is not None and (height, width) != self.size:
            raise ValueError(f"expected images of {self.size[0]}x{self.size[1]}, got {height}x{width}")
        if height % self.multiple_of or width % self.multiple_of:
            raise ValueError(f"height and width must be multiples of {self.multiple_of}, got {height}x{width}")


CIFAR10 = Preprocessing(mean=(125.3, 123.0, 113.9), scale=(63.0, 62.1, 66.7))
"""Channel statistics of the CIFAR-10 training images, rounded."""

IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375))
"""ImageNet statistics as torchvision uses them, times 255; for `builders.alexnet` and `builders.vgg19`."""

SQUEEZENET = Preprocessing(mean=(103.939, 116.779, 123.68), order="BGR", size=(224, 224))
EFFICIENTNET_LITE0 = Preprocessing(mean=(127.0,) * 3, scale=(128.0,) * 3, size=(224, 224))
HED = Preprocessing(mean=(104.00699, 116.66877, 122.67892), order="BGR")
CRAFT = Preprocessing(mean=IMAGENET.mean, scale=IMAGENET.scale, multiple_of=32)
EASYOCR_ENGLISH = Preprocessing(mean=(127.5,) * 3, scale=(127.5,) * 3, multiple_of=32)
YOLOV3_TINY = Preprocessing(mean=(0.0,) * 3, scale=(255.0,) * 3, size=(416, 416))
WAIFU2X_PHOTO = Preprocessing(mean=(0.0,) * 3, scale=(255.0,) * 3)
PPOCR_DETECTION = Preprocessing(mean=(127.5,) * 3, scale=(127.5,) * 3, order="BGR", multiple_of=32)
OPEN_NSFW = Preprocessing(mean=(104.0, 117.0, 123.0), order="BGR", layout="NHWC", size=(224, 224))
"""The packaged file is a TensorFlow export: its input is NHWC and begins with a Transpose."""
