"""Models with external data."""

from __future__ import annotations

from pathlib import Path

import onnx

from reuse_compiler.graph.tensors import raw_bytes, set_external_data, tensors_of


def save_with_data(model: onnx.ModelProto, path: Path, location: str) -> Path:
    """Writes a copy of `model` to `path` with the data of all its tensors in the file `location` beside it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    data_file = path.parent / location
    data_file.parent.mkdir(parents=True, exist_ok=True)
    with data_file.open("wb") as stream:
        for tensor in tensors_of(copy):
            content, offset = raw_bytes(tensor), stream.tell()
            stream.write(content)
            for field in ("raw_data", "float_data", "int64_data"):
                tensor.ClearField(field)
            set_external_data(tensor, location, offset, len(content))
    path.write_bytes(copy.SerializeToString())
    return path
