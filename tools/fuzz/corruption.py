"""Damage that fuzzers of files do: to bytes, to the fields of a model, to JSON, to arrays."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

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


def corrupt_bytes(rng: Rng, content: bytes) -> bytes:
    """Truncates, flips, overwrites, inserts, doubles or exchanges some bytes; several times over, or once."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 40))
        way = int(rng.integers(7))
        if way == 0:
            del data[at:]
        elif way == 1:
            del data[at : at + length]
        elif way == 2 and at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        elif way == 3:
            data[at : at + length] = rng.bytes(length)
        elif way == 4:
            data[at:at] = pick(rng, [rng.bytes(length), bytes(length), b"\xff" * length])
        elif way == 5:
            data[at:at] = data[at // 2 : at // 2 + length]
        else:
            other = int(rng.integers(len(data) + 1))
            data[at : at + length], data[other : other + length] = data[other : other + length], data[at : at + length]
    return bytes(data)


def corrupt_message(rng: Rng, model: Message) -> None:
    """Changes one field somewhere in a protobuf message: removed, doubled, moved, or of an extreme value."""
    messages = list(_messages(model))
    message = pick(rng, messages)
    set_fields = [descriptor for descriptor, _ in message.ListFields()]
    descriptor = pick(rng, set_fields if set_fields and rng.random() < 0.8 else message.DESCRIPTOR.fields)
    name, way = descriptor.name, rng.random()
    if way < 0.2:
        message.ClearField(name)
    elif descriptor.is_repeated:
        _corrupt_repeated(rng, getattr(message, name), descriptor, messages)
    elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, name).CopyFrom(_another(rng, descriptor, messages))
    else:
        _set(message, name, _odd_scalar(rng, descriptor, messages, getattr(message, name)))


def _corrupt_repeated(rng: Rng, values: Any, descriptor: FieldDescriptor, messages: list[Message]) -> None:
    """Removes, doubles, exchanges or replaces an element, or adds one."""
    at, way = int(rng.integers(len(values) + 1)), rng.random()
    is_message = descriptor.type == FieldDescriptor.TYPE_MESSAGE
    if way < 0.3 and at < len(values):
        del values[at]
    elif way < 0.5 and len(values) > 1 and is_message:
        first = values.pop(at % len(values))
        values.append(first)
    elif is_message:
        values.add().CopyFrom(_another(rng, descriptor, messages))
    else:
        value = _odd_scalar(rng, descriptor, messages, values[at] if at < len(values) else None)
        with suppress(ValueError, TypeError):  # the field's type has no such value
            if at < len(values):
                values[at] = value
            else:
                values.append(value)


def _messages(message: Message) -> Iterator[Message]:
    """Yields a message and all that are in it."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for each in value if descriptor.is_repeated else [value]:
                yield from _messages(each)


def _another(rng: Rng, descriptor: FieldDescriptor, messages: list[Message]) -> Message:
    """Returns a copy of a message of that type from elsewhere, or an empty one."""
    copy = GetMessageClass(descriptor.message_type)()
    same = [message for message in messages if message.DESCRIPTOR.full_name == copy.DESCRIPTOR.full_name]
    if same:
        copy.CopyFrom(pick(rng, same))
    return copy


def _odd_scalar(rng: Rng, descriptor: FieldDescriptor, messages: list[Message], value: Any) -> Any:
    """Draws a value of a field's type: an extreme one, or a name that is used elsewhere."""
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        used = [v for m in messages for d, v in m.ListFields() if d.type == d.TYPE_STRING and isinstance(v, str)]
        used += [
            e
            for m in messages
            for d, v in m.ListFields()
            if d.type == d.TYPE_STRING and not isinstance(v, str)
            for e in v
        ]
        return pick(rng, used if used and rng.random() < 0.6 else NAMES)
    if descriptor.type == FieldDescriptor.TYPE_BYTES:
        return corrupt_bytes(rng, value or b"0123")
    if descriptor.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return pick(rng, REALS)
    return pick(rng, INTEGERS)


def _set(message: Message, name: str, value: Any) -> None:
    with suppress(ValueError, TypeError):  # the field's type has no such value
        setattr(message, name, value)


def corrupt_json(rng: Rng, text: str) -> str:
    """Changes a value or a key somewhere in JSON, or its text."""
    if rng.random() < 0.3:
        return corrupt_bytes(rng, text.encode()).decode("latin-1")
    content = json.loads(text)
    places = list(_places(content))
    odd: list[Any] = [
        *(None, True, False, "", "0", " ", "\ud800", "[bold]", [], {}, [[]], {"": None}, 10**400, 5e-324, 1e308),
        *(INTEGERS + REALS + NAMES),
    ]
    for _ in range(int(rng.integers(1, 3))):
        if not places:
            content = pick(rng, odd)
            break
        holder, key = pick(rng, places)
        way = rng.random()
        if way < 0.2 and isinstance(holder, dict):
            holder[pick(rng, [name for name in odd if isinstance(name, str)])] = holder.get(key)
        elif way < 0.3 and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = pick(rng, odd)
    text = json.dumps(content)
    if rng.random() < 0.1:
        value = pick(rng, ["[" * 100_000, "9" * 10_000, "-0", "1e99999", '{"a":' * 5000, "{}"])
        text = text.replace(pick(rng, ["1", "{", "0", '"']), value, 1)
    return text


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every holder and key of a value in JSON."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    for key in keys:
        yield content, key
        yield from _places(content[key])


def corrupt_array(rng: Rng, array: Array) -> Array:
    """Returns the array with other values, of another shape, type or order."""
    way = int(rng.integers(6))
    if way == 0:
        shape = list(array.shape)
        shape.insert(int(rng.integers(len(shape) + 1)), int(rng.integers(0, 3)))
        return np.resize(array, shape)
    if way == 1:
        return array[..., : int(rng.integers(0, 3))] if array.ndim else array.reshape(1)
    if way == 2:
        kinds = ("f2", "f8", ">f4", "i1", "u8", "?", "c8", "S3", "U2", "O", "M8[s]", "V4", "f4,i4")
        with np.errstate(all="ignore"):
            return np.resize(np.zeros(1, pick(rng, kinds)), array.shape)
    if way == 3:
        return np.asfortranarray(array)[::-1] if array.ndim else array
    values = array.copy()
    if values.size and values.dtype.kind in "fiu":
        odd = pick(rng, REALS if values.dtype.kind == "f" else (-1, 2**31 - 1, -(2**31), 100))
        with np.errstate(all="ignore"):
            values.reshape(-1)[rng.integers(0, values.size, 3)] = np.array(odd).astype(values.dtype)
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
    shape = pick(
        rng, [(), (0,), (-1,), (2**31, 2**31), (99_999_999_999,), (2**62, 4), ("a",), (1.5,), None, [3], (3,) * 70]
    )
    header = {"descr": pick(rng, ["<f4", "|O", ">f8", "<i8", "x", "", ("a", 1), [("a", "<f4")]]), "fortran_order": True}
    text = (repr(header | {"shape": shape}) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content[-100:]


def corrupt_npz(rng: Rng, content: bytes) -> bytes:
    """Changes an array of an .npz file, a name, or its bytes."""
    if rng.random() < 0.4:
        return corrupt_bytes(rng, content)
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = pick(rng, list(arrays))
    if rng.random() < 0.3:
        array = arrays.pop(name)
        if rng.random() < 0.7:
            arrays[name + pick(rng, ["x", "/", "/weight", "\N{SNOWMAN}", "a" * 300])] = array
    else:
        arrays[name] = corrupt_array(rng, arrays[name])
    stream = io.BytesIO()
    pick(rng, [np.savez, np.savez_compressed])(stream, **arrays)
    return stream.getvalue()
