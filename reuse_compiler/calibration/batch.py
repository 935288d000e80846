"""Input shapes for a batch size: `--batch` as a short form of `--shape`."""

from __future__ import annotations

from collections.abc import Sequence

from reuse_compiler.errors import ConfigError
from reuse_compiler.verification.data import Shapes
from reuse_compiler.verification.inputs import InputSpec


def with_batch(shapes: Shapes, batch: int, specs: Sequence[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Returns the user's shapes with `batch` as first dimension of every input whose own is dynamic.

    Raises ConfigError where the model's batch is another fixed one, where a shape says otherwise, and where an input
    has further dynamic dimensions that no shape tells.
    """
    result = dict(shapes)
    batched = [spec for spec in specs if spec.dims and isinstance(spec.dims[0], str)]
    fixed = {spec.dims[0] for spec in specs if spec.dims} - {batch}
    if not batched and fixed:
        raise ConfigError(f"--batch {batch}: the model's inputs have fixed sizes, as in {specs[0]}")
    for spec in batched:
        result[spec.name] = _with_batch(spec, shapes.get(spec.name), batch)
    return result


def _with_batch(spec: InputSpec, shape: tuple[int, ...] | None, batch: int) -> tuple[int, ...]:
    if shape is not None:
        if shape[0] != batch:
            raise ConfigError(f"--batch {batch} and --shape, which says {shape[0]}, disagree about the input {spec}")
        return shape
    assert spec.dims is not None
    if any(isinstance(dim, str) for dim in spec.dims[1:]):
        example = ",".join([str(batch), *(str(dim) or "?" for dim in spec.dims[1:])])
        raise ConfigError(
            f"--batch {batch}: the input {spec} has other dynamic sizes: give all, as in --shape {spec.name}:{example}"
        )
    return (batch, *(dim for dim in spec.dims[1:] if isinstance(dim, int)))
