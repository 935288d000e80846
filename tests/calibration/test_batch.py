"""`--batch` as a short form of `--shape`."""

import numpy as np
import pytest

from reuse_compiler.calibration.batch import with_batch
from reuse_compiler.errors import ConfigError
from reuse_compiler.verification.inputs import InputSpec

FLOAT = np.dtype(np.float32)
IMAGE = InputSpec("x", FLOAT, ("N", 3, 8, 8))
ANY_SIZE = InputSpec("photo", FLOAT, ("", 3, "H", ""))
FIXED = InputSpec("f", FLOAT, (2, 3))
SCALE = InputSpec("scale", FLOAT, ())
UNKNOWN = InputSpec("u", FLOAT, None)


def test_every_input_with_a_dynamic_batch_gets_it() -> None:
    label = InputSpec("label", np.dtype(np.int64), ("N",))
    assert with_batch({}, 4, [IMAGE, label, SCALE, UNKNOWN]) == {"x": (4, 3, 8, 8), "label": (4,)}


def test_shapes_tell_other_sizes() -> None:
    shapes = {"photo": (4, 3, 20, 30), "other": (1,)}
    assert with_batch(shapes, 4, [ANY_SIZE, IMAGE]) == shapes | {"x": (4, 3, 8, 8)}


def test_a_fixed_batch_of_that_size_needs_nothing() -> None:
    assert with_batch({}, 2, [FIXED]) == {}


@pytest.mark.parametrize(
    ("spec", "shapes", "message"),
    [
        (FIXED, {}, r"--batch 4: the model's inputs have fixed sizes, as in 'f' float32 \[2, 3\]"),
        (IMAGE, {"x": (2, 3, 8, 8)}, "--batch 4 and --shape, which says 2, disagree"),
        (ANY_SIZE, {}, r"has other dynamic sizes: give all, as in --shape photo:4,3,H,\?"),
    ],
)
def test_what_does_not_fit(spec: InputSpec, shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_batch(shapes, 4, [spec])
