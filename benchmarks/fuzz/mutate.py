"""Random changes. Each takes a generator of random numbers, so that an input can be made again by its number."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NUMBERS = (0, 1, -1, 7, -5, 2**31 - 1, 2**31, 2**40, -(2**63), 2**63 - 1)
REALS = (0.0, -1.0, 1e38, 1e308, float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "",
    "x",
    "null",
    "[]",
    "{}",
    "[[1]]",
    "1e999",
    "nan",
    "-1",
    "../../x",
    "/dev/zero",
    "a" * 5000,
    "\x00",
    "é\u202e",
    "=",
)
JSON_VALUES = (*NUMBERS, *REALS, *TEXTS, None, True, [], {}, [[[]]], {"a": 1})


def bytes_of(choose: random.Random, data: bytes) -> bytes:
    """Flips, cuts, repeats and zeros."""
    found = bytearray(data)
    for _ in range(choose.choice((1, 1, 2, 8))):
        at = choose.randrange(len(found) + 1)
        match choose.randrange(5):
            case 0 if found:
                found[at % len(found)] ^= 1 << choose.randrange(8)
            case 1:
                del found[at:]
            case 2:
                del found[at : at + choose.choice((1, 4, 100))]
            case 3:
                found[at:at] = found[at : at + choose.choice((1, 8, 500))]
            case _:
                found[at : at + 8] = choose.choice((bytes(8), b"\xff" * 8, choose.randbytes(8)))
    return bytes(found)


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested lists and dictionaries."""
    yield place
    inner: Any = (
        content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    )
    for key, value in inner:
        yield from places(value, (*place, key))


def json_of(choose: random.Random, data: bytes) -> bytes:
    """Other values, missing and additional keys; now and then no JSON."""
    if choose.random() < 0.1:
        return bytes_of(choose, data)
    content = json.loads(data)
    for _ in range(choose.choice((1, 1, 2, 4))):
        place = choose.choice([*places(content)])
        value = copy.deepcopy(choose.choice(JSON_VALUES))
        if not place:
            content = value if choose.random() < 0.2 else content
            continue
        holder = content
        for key in place[:-1]:
            holder = holder[key]
        if choose.random() < 0.3:
            del holder[place[-1]]
        else:
            holder[place[-1]] = value
    return json.dumps(content).encode()


def zip_of(choose: random.Random, data: bytes) -> bytes:
    """A zip with one entry changed, left out or renamed, sums and sizes right; now and then the bytes of the whole."""
    if choose.random() < 0.3:
        return bytes_of(choose, data)
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    name = choose.choice([*entries])
    content, what = entries[name], choose.random()
    if what < 0.1:
        del entries[name]
    elif what < 0.2:
        entries[choose.choice((*TEXTS[1:], *entries))] = content
    else:
        entries[name] = json_of(choose, content) if name.endswith(".json") else bytes_of(choose, content)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for entry, value in entries.items():
            new.writestr(entry.replace("\x00", "0"), value)
    return made.getvalue()


def table_of(choose: random.Random, data: bytes) -> bytes:
    """A CSV with other cells, rows and columns, or another encoding."""
    if choose.random() < 0.2:
        return bytes_of(choose, data)
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(choose.choice((1, 1, 3))):
        row = choose.choice(rows)
        match choose.randrange(4):
            case 0:
                row[choose.randrange(len(row))] = str(choose.choice(JSON_VALUES))
            case 1:
                row.append(choose.choice(TEXTS))
            case 2 if len(row) > 1:
                del row[choose.randrange(len(row))]
            case _:
                rows.insert(choose.randrange(len(rows)), [*choose.choice(rows)])
    text = choose.choice(("\n", "\n", "\r\n")).join(",".join(row) for row in rows)
    return text.encode(choose.choice(("utf-8", "utf-8", "utf-16", "latin-1")), "replace")


def onnx_of(choose: random.Random, data: bytes) -> bytes:
    """A graph with some field of some message set to another value, added or taken away."""
    if choose.random() < 0.15:
        return bytes_of(choose, data)
    model = onnx.load_from_string(data)
    names = [name for node in model.graph.node for name in (node.op_type, *node.input, *node.output)]
    for _ in range(choose.choice((1, 1, 1, 2, 4))):
        _change(choose, model, names)
    return model.SerializeToString()


def _change(choose: random.Random, message: Message, names: Sequence[str]) -> None:
    while True:
        present = [field for field, _ in message.ListFields()]
        field = choose.choice(present if present and choose.random() < 0.85 else [*message.DESCRIPTOR.fields])
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            held = getattr(message, field.name)
            if not field.is_repeated:
                message = held
            elif not held:
                held.add()
                return
            elif choose.random() < 0.1:
                _list(choose, held)
                return
            else:
                message = choose.choice([*held])
            continue
        value = _value(choose, field, names)
        held = getattr(message, field.name)
        if field.is_repeated and held and choose.random() < 0.7:
            held[choose.randrange(len(held))] = value
        elif field.is_repeated:
            held.append(value)
        else:
            setattr(message, field.name, value)
        return


def _list(choose: random.Random, held: Any) -> None:
    if choose.random() < 0.5:
        del held[choose.randrange(len(held))]
    else:
        held.add().CopyFrom(choose.choice([*held]))


def _value(choose: random.Random, field: Any, names: Sequence[str]) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        return choose.choice((*TEXTS, *names))
    if kind == FieldDescriptor.TYPE_BYTES:
        return choose.randbytes(choose.choice((0, 1, 4, 40)))
    if kind in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return choose.choice(REALS[:3])
    if kind == FieldDescriptor.TYPE_ENUM:
        return choose.choice([value.number for value in field.enum_type.values])
    if kind == FieldDescriptor.TYPE_INT32:
        return choose.choice([number for number in NUMBERS if -(2**31) <= number < 2**31])
    if kind == FieldDescriptor.TYPE_UINT64:
        return choose.choice([number for number in NUMBERS if number >= 0])
    return choose.choice(NUMBERS)
