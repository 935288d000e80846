"""Models in memory as something onnxruntime can open, with further tensors as outputs where asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from google.protobuf.message import EncodeError

from reuse_compiler.graph import save_model
from reuse_compiler.graph.tensors import is_external, tensors_of


@contextmanager
def runnable(model: onnx.ModelProto, folder: Path) -> Iterator[bytes | Path]:
    """Yields the serialized model, or a temporary file in `folder` if it is too large or has external data."""
    content = None if any(is_external(tensor) for tensor in tensors_of(model)) else _serialized(model)
    if content is not None:
        yield content
        return
    with TemporaryDirectory(prefix=".reuse-", dir=folder) as temporary:
        path = Path(temporary) / "model.onnx"
        save_model(model, path, link_data=True)
        yield path


@contextmanager
def exposed(model: onnx.ModelProto, tensors: Iterable[str]) -> Iterator[None]:
    """Makes tensors of the main graph outputs of `model` while the context lasts."""
    outputs = model.graph.output
    before = len(outputs)
    present = {value.name for value in outputs}
    try:
        # Without a type: onnxruntime infers it.
        outputs.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in present)
        yield
    finally:
        del outputs[before:]


def _serialized(model: onnx.ModelProto) -> bytes | None:
    """The model as bytes, or None if it exceeds the 2 GB of a protobuf message."""
    try:
        content: bytes = model.SerializeToString()
    except (EncodeError, ValueError):
        return None
    return content
