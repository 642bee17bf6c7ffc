"""Caffe's files: the text of a network, and its weights in protobuf's wire format.

Sources: Protocol Buffers documentation, "Text Format Language Specification" and "Encoding"; caffe.proto of BVLC/caffe for the
numbers of fields (NetParameter.layers 2, .layer 100; blobs 6 and 7 of these; BlobProto).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"\s+|#[^\n]*|(?P<text>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')|(?P<word>[-+.\w/]+)|(?P<mark>[{}:<>\[\],;])"
)
_DEPTH = 16
_SPLIT = 1 << 28
"""Numbers in one array of data: 1 GiB."""

Message = list[tuple[str, "str | Message"]]
"""Fields in their order, by name; a field that is repeated stands there more than once."""


class Network(NamedTuple):
    """The names of a network's inputs, and the shapes that its text gives them, empty where it gives none."""

    inputs: dict[str, tuple[int, ...]]


def network(text: str) -> Network:
    """Raises ValueError for a text that is no network."""
    tokens = list(_tokens(text))
    tokens.reverse()
    return _inputs(_message(tokens, _DEPTH, ""))


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise ValueError(f"its line {text.count(chr(10), 0, at) + 1} cannot be read")
        at = found.end()
        if found.lastgroup:
            yield found[0]


def _message(tokens: list[str], depth: int, end: str) -> Message:
    """The fields up to `end`; tokens are taken from the list's end."""
    if not depth:
        raise ValueError("it is nested too deep")
    fields: Message = []
    while tokens:
        name = tokens.pop()
        if name == end:
            return fields
        if name in (",", ";"):
            continue
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or not tokens:
            raise ValueError(f"'{name:.40}' stands where a name is due")
        fields += [(name, value) for value in _values(tokens, depth)]
    if end:
        raise ValueError("it is cut off")
    return fields


def _values(tokens: list[str], depth: int) -> list[str | Message]:
    mark = tokens.pop()
    if mark == ":" and tokens:
        mark = tokens.pop()
    if mark in "{<":
        return [_message(tokens, depth - 1, "}" if mark == "{" else ">")]
    if mark == "[":
        listed: list[str | Message] = []
        while tokens and (value := tokens.pop()) != "]":
            listed += [value] * (value != ",")
        return listed
    if mark in ":}>],;":
        raise ValueError(f"'{mark}' stands where a value is due")
    parts = [mark]
    while mark[0] in "\"'" and tokens and tokens[-1][0] in "\"'":
        parts.append(tokens.pop())
    return ["".join(parts)]


def _of(message: Message, name: str) -> list[str]:
    return [value.strip("\"'") for field, value in message if field == name and isinstance(value, str)]


def _within(message: Message, name: str) -> list[Message]:
    return [value for field, value in message if field == name and not isinstance(value, str)]


def _inputs(net: Message) -> Network:
    inputs = dict[str, tuple[int, ...]]()
    layers = [*_within(net, "layer"), *_within(net, "layers")]
    if not layers:
        raise ValueError("it has no layers")
    names, dims = _of(net, "input"), _dims(net, "input_dim")
    shapes = [_dims(shape, "dim") for shape in _within(net, "input_shape")] or [
        dims[at : at + 4] for at in range(0, len(dims), 4)
    ]
    inputs |= {name: shapes[at] if at < len(shapes) else () for at, name in enumerate(names)}
    if any(int(value) < 1 for layer in layers for value in _counts(layer)):
        raise ValueError("a layer counts to zero")  # OpenCV divides by these.
    for layer in layers:
        if _of(layer, "type") == ["Input"]:
            given = [_dims(shape, "dim") for said in _within(layer, "input_param") for shape in _within(said, "shape")]
            inputs |= {top: given[min(at, len(given) - 1)] if given else () for at, top in enumerate(_of(layer, "top"))}
    if not inputs:
        raise ValueError("it has no input, as a network to train has none; give its deploy.prototxt")
    if any(min(shape, default=1) < 1 or math.prod(shape) > _SPLIT for shape in inputs.values()):
        raise ValueError("the shape of its input cannot be right")
    return Network(inputs)


def _counts(message: Message) -> Iterator[str]:
    for name, value in message:
        if not isinstance(value, str):
            yield from _counts(value)
        elif name in ("num_output", "group") or name.startswith(("stride", "dilation")):
            yield value


def _dims(message: Message, name: str) -> tuple[int, ...]:
    return tuple(int(value) for value in _of(message, name))


def weights(content: bytes) -> None:
    """Raises ValueError for anything that is no network with weights, such as blobs of another length than their shape says."""
    layers = 0
    for number, kind, value in _fields(content):
        if (number, kind) in ((100, 2), (2, 2)):
            layers += 1
            for inner, wire, blob in _fields(value):
                if inner == (7 if number == 100 else 6) and wire == 2:
                    _blob(blob)
    if not layers:
        raise ValueError("it has no layers")


def _blob(content: bytes) -> None:
    shape, old, numbers = list[int](), dict[int, int](), 0
    for number, kind, value in _fields(content):
        if number == 7 and kind == 2:
            shape = [
                size
                for field, wire, dims in _fields(value)
                if field == 1
                for size in (_varints(dims) if wire == 2 else [_one(dims)])
            ]
        elif number in (1, 2, 3, 4) and kind == 0:
            old[number] = _one(value)
        elif number in (5, 8):
            numbers += len(value) // (4 if number == 5 else 8)
    size = math.prod(shape if shape or not old else [old.get(number, 0) for number in (1, 2, 3, 4)])
    if numbers != size:
        raise ValueError(f"weights of the shape {shape or list(old.values())} have {numbers} numbers")


def _fields(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each field's number, wire type and bytes."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == 0:
            start = at
            _, at = _varint(content, at)
            size, at = at - start, start
        elif kind == 2:
            size, at = _varint(content, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no protobuf")
        if size > len(content) - at:
            raise ValueError("it is cut off")
        yield tag >> 3, kind, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(content):
            raise ValueError("it is cut off")
        byte = content[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise ValueError("it is no protobuf")


def _one(content: bytes) -> int:
    return _varint(content, 0)[0]


def _varints(content: bytes) -> list[int]:
    values, at = [], 0
    while at < len(content):
        value, at = _varint(content, at)
        values.append(value)
    return values
