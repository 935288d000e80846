"""Damage that fuzzers do: to bytes, to the fields of a model, to JSON, to arrays."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tools.fuzz.convolutions import Array, Rng, pick

INTEGERS = (0, -1, 1, 2, 3, 7, 64, 65, 257, 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, -1.0, 0.3, 1.0, 1e-30, 1e6, 3e38, math.inf, -math.inf, math.nan)
NAMES = (
    *("", " ", "x", "y", "conv1", "Conv", "ai.onnx", "local", "no such name", "../model.onnx", "/dev/zero", "."),
    *("a" * 5000, "two\nlines", "[bold]markup[/bold]", "[/]", "\x1b[31mred", "\0", "\N{SNOWMAN}", "%s %n {0}"),
)
JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    "0",
    "\ud800",
    [],
    {},
    [[]],
    {"": None},
    10**400,
    5e-324,
    *INTEGERS,
    *REALS,
    *NAMES,
)
JSON_TEXTS = ("[" * 100_000, "9" * 10_000, "-0", "1e99999", '{"a":' * 5000, "{}", "")
FILE_TYPES = ("f2", "f8", ">f4", "i1", "i4", "u8", "?", "c8", "S3", "U2", "O", "M8[s]", "V4", "f4,i4")
HEADER_TYPES = ("<f4", "|O", ">f8", "<i8", "x", "", ("a", 1), [("a", "<f4")])
HEADER_SHAPES = ((), (0,), (-1,), (2**31, 2**31), (99_999_999_999,), (2**62, 4), ("a",), (1.5,), None, [3], (3,) * 70)


def corrupt_bytes(rng: Rng, content: bytes) -> bytes:
    """Truncates, flips, overwrites, inserts, doubles or removes some bytes; several times over, or once."""
    for _ in range(int(rng.integers(1, 4))):
        at, other = (int(place) for place in rng.integers(0, len(content) + 1, 2))
        length = int(rng.integers(1, 40))
        flipped = bytes([content[at] ^ 1 << int(rng.integers(8))]) if at < len(content) else b""
        filled = pick(rng, [b"", rng.bytes(length), bytes(length), b"\xff" * length, content[other : other + length]])
        new, end = pick(rng, [(flipped, at + 1), (filled, at), (filled, at + length), (b"", len(content))])
        content = content[:at] + new + content[end:]
    return content


def corrupt_message(rng: Rng, model: Message) -> None:
    """Changes one field somewhere in a protobuf message: removed, doubled, moved, or of an extreme value."""
    messages = list(_messages(model))
    message = pick(rng, messages)
    descriptor = pick(rng, [each for each, _ in message.ListFields()] * 4 + list(message.DESCRIPTOR.fields))
    name, new = descriptor.name, _odd_value(rng, descriptor, messages)
    with suppress(ValueError, TypeError):  # raised for a value that the field's type does not have
        if descriptor.is_repeated:
            values, way = deepcopy(list(getattr(message, name))), int(rng.integers(4))
            at = int(rng.integers(len(values) + 1))
            message.ClearField(name)
            values[at : at + int(way < 2)] = [new] if way else []
            getattr(message, name).extend(values[at:] + values[:at] if way == 3 else values)
        elif rng.random() < 0.25:
            message.ClearField(name)
        elif isinstance(new, Message):
            getattr(message, name).CopyFrom(new)
        else:
            setattr(message, name, new)


def _messages(message: Message) -> Iterator[Message]:
    """Yields a message and all that are in it."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if descriptor.is_repeated else [value]:
                yield from _messages(each)


def _odd_value(rng: Rng, descriptor: FieldDescriptor, messages: list[Message]) -> Any:
    """Draws a value of a field's type: an extreme one, or one that is used elsewhere."""
    if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
        copy = GetMessageClass(descriptor.message_type)()
        same = [message for message in messages if message.DESCRIPTOR.full_name == copy.DESCRIPTOR.full_name]
        copy.CopyFrom(pick(rng, same or [copy]))
        return copy
    if descriptor.type == FieldDescriptor.TYPE_BYTES:
        return rng.bytes(int(rng.integers(9)))
    if descriptor.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return pick(rng, REALS)
    if descriptor.type != FieldDescriptor.TYPE_STRING:
        return pick(rng, INTEGERS)
    used = [
        text
        for message in messages
        for each, value in message.ListFields()
        if each.type == FieldDescriptor.TYPE_STRING
        for text in (value if each.is_repeated else [value])
    ]
    return pick(rng, used if rng.random() < 0.6 else NAMES)


def corrupt_json(rng: Rng, content: bytes) -> bytes:
    """Changes a value or a key somewhere in JSON, or its text."""
    if rng.random() < 0.3:
        return corrupt_bytes(rng, content)
    root = [json.loads(content)]
    holder, key = pick(rng, list(_places(root)))
    if isinstance(holder, dict) and rng.random() < 0.3:
        value = holder.pop(key)
        if rng.random() < 0.7:
            holder[pick(rng, NAMES)] = value
    else:
        holder[key] = pick(rng, JSON_VALUES)
    text = json.dumps(root[0])
    if rng.random() < 0.1:
        text = text.replace(pick(rng, ["1", "{", "0", '"']), pick(rng, JSON_TEXTS), 1)
    return text.encode()


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every holder and key of a value in JSON."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    for key in keys:
        yield content, key
        yield from _places(content[key])


def corrupt_array(rng: Rng, array: Array, types: Sequence[Any] = FILE_TYPES) -> Array:
    """Returns the array in another shape, of another type, in another order, or with extreme values."""
    shape, way = list(array.shape), int(rng.integers(6))
    axis = int(rng.integers(len(shape) + 1))
    if way < 2:
        size = shape[axis] if axis < len(shape) else 0
        shape[axis : axis + 1] = pick(rng, [[], [0], [1], [1, size], [size + 1], [max(0, size - 1)], [2 * size]])
        return np.resize(array, shape).astype(array.dtype)
    if way == 2:
        return np.resize(np.zeros(1, pick(rng, types)), shape)
    if way == 3 and shape:
        return np.asfortranarray(array[::-1])
    values, count = np.array(array), array.size if rng.random() < 0.2 else min(3, array.size)
    if values.dtype.kind in "fiu":
        odd = np.array(pick(rng, REALS if values.dtype.kind == "f" else INTEGERS))
        with np.errstate(all="ignore"):
            values.reshape(-1)[rng.permutation(array.size)[:count]] = odd.astype(values.dtype)
    return values


def corrupt_npy(rng: Rng, content: bytes) -> bytes:
    """Changes what the header of an .npy file says, its array, or its bytes."""
    way = rng.random()
    if way < 0.3:
        return corrupt_bytes(rng, content)
    if way < 0.7:
        stream = io.BytesIO()
        np.save(stream, corrupt_array(rng, np.load(io.BytesIO(content))))
        return stream.getvalue()
    header = {"descr": pick(rng, HEADER_TYPES), "fortran_order": True, "shape": pick(rng, HEADER_SHAPES)}
    text = f"{header}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content[-100:]


def corrupt_npz(rng: Rng, content: bytes) -> bytes:
    """Changes an array of an .npz file, a name, or its bytes."""
    if rng.random() < 0.4:
        return corrupt_bytes(rng, content)
    with ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, list(members))
    member = members.pop(name)
    if rng.random() < 0.3:
        name = pick(rng, ["x", "/", "/weight", "\N{SNOWMAN}", "a" * 300]) + pick(rng, [name, ".npy", ""])
    else:
        member = corrupt_npy(rng, member)
    stream = io.BytesIO()
    with ZipFile(stream, "w", pick(rng, [ZIP_STORED, ZIP_DEFLATED])) as archive:
        for key, value in (members | {name: member}).items():
            archive.writestr(key, value)
    return stream.getvalue()


CORRUPTIONS = {".json": corrupt_json, ".npy": corrupt_npy, ".npz": corrupt_npz}


def corrupt_file(rng: Rng, path: Path) -> None:
    """Damages a file by what it is; now and then, something else lies in its place."""
    if rng.random() < 0.95:
        path.write_bytes(CORRUPTIONS.get(path.suffix, corrupt_bytes)(rng, path.read_bytes()))
        return
    path.unlink()
    pick(rng, [path.mkdir, path.touch, lambda: path.symlink_to(path), lambda: None])()
