"""What a calibration has found out so far, in a file, so that a run that was ended can be resumed.

The file lies in the cache, under a name made of hashes of the model, the data and the options that the numbers depend
on; so a later calibration with another accuracy budget can resume from it too.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx
from pydantic import TypeAdapter, ValidationError

from reuse_compiler.cache import cache_folder
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.errors import OutputError
from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.tensors import is_external, raw_bytes, tensors_of
from reuse_compiler.json_files import JsonError, read_json

logger = logging.getLogger(__name__)

VERSION = 3
"""Part of the name: a change of what is measured must not meet old files."""
INDEPENDENT = {
    "metric",
    "max_drop",
    "drop_type",
    "at_least",
    "strategy",
    "objective",
    "reconstruct",
    "compare_int8",
    "workers",
    "backend",
    "scheduler",
}
"""Options that no stored number depends on; what depends on the metric has it in its key."""

T = TypeVar("T")


def state_path(models: Sequence[onnx.ModelProto], data_digest: str, options: CalibrationOptions) -> Path:
    """Returns the state file of a model (and its reference, if it has one), its data and the options."""
    state = hashlib.sha256()
    for model in models:
        state.update(model.SerializeToString(deterministic=True))
        for tensor in tensors_of(model):
            if is_external(tensor):
                state.update(raw_bytes(tensor))
    state.update(data_digest.encode())
    state.update(json.dumps([VERSION, options.model_dump(mode="json", exclude=INDEPENDENT)], sort_keys=True).encode())
    return cache_folder() / "calibration" / f"{state.hexdigest()[:32]}.json"


class State:
    """Values by kind and key; each is written as soon as it is known."""

    def __init__(self, path: Path, resume: bool) -> None:
        """Takes up what the file holds if `resume`; else begins anew. A file that cannot be read counts as none."""
        self._path = path
        self._values: dict[str, dict[str, Any]] = _read(path) if resume else {}
        self._failed = False

    def remember(self, kind: str, key: str, as_type: Any, compute: Callable[[], T]) -> T:
        """Returns the stored value, or computes and stores it. `as_type` is T, as pydantic takes it."""
        adapter: TypeAdapter[T] = TypeAdapter(as_type)
        stored = self._values.get(kind, {}).get(key)
        if stored is not None:
            try:
                return adapter.validate_python(stored)
            except ValidationError:  # written by another version
                del self._values[kind][key]
        value = compute()
        self._values.setdefault(kind, {})[key] = adapter.dump_python(value, mode="json", by_alias=True)
        self._write()
        return value

    def _write(self) -> None:
        """Writes the file; where that fails, the calibration goes on, as only a later run would miss it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileTransaction(overwrite=True) as files:
                with files.create(self._path) as stream:
                    stream.write(json.dumps(self._values).encode())
                files.publish()
        except (OSError, OutputError) as error:
            if not self._failed:
                logger.warning("this run cannot be resumed: %s; set REUSE_CACHE to a folder that can be written", error)
            self._failed = True


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = read_json(path, finite=False)  # an error may be infinite
    except JsonError:
        return {}
    if not isinstance(content, dict):
        return {}
    return {kind: values for kind, values in content.items() if isinstance(values, dict)}
