"""Protocol Buffers without their schema: the fields of a message by number, which is all that W&B promises to keep.

https://protobuf.dev/programming-guides/encoding/. W&B's own classes come with a copy for each release of the protobuf package
and with all of W&B; six messages with a few fields each need less.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Message:
    """One message. A field that is not there is 0, "" or nothing, as in the format."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError for what is no message."""
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _fields(data):
            self._fields.setdefault(number, []).append(value)

    def has(self, number: int) -> bool:
        return number in self._fields

    def number(self, number: int) -> int:
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise ValueError(f"field {number} is no number")
        return value - (1 << 64) if value >> 63 else value

    def raw(self, number: int) -> bytes:
        value = self._fields.get(number, [b""])[-1]
        return value if isinstance(value, bytes) else b""

    def double(self, number: int) -> float:
        return float(struct.unpack("<d", self.raw(number))[0]) if len(self.raw(number)) == 8 else 0.0

    def single(self, number: int) -> float:
        return float(struct.unpack("<f", self.raw(number))[0]) if len(self.raw(number)) == 4 else 0.0

    def texts(self, number: int) -> list[str]:
        return [value.decode(errors="replace") for value in self._fields.get(number, []) if isinstance(value, bytes)]

    def text(self, number: int) -> str:
        return (self.texts(number) or [""])[-1]

    def messages(self, number: int) -> list[Message]:
        return [Message(value) for value in self._fields.get(number, []) if isinstance(value, bytes)]

    def message(self, number: int) -> Message:
        """The field, or an empty message."""
        return (self.messages(number) or [Message(b"")])[-1]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("cut short")
