"""UBJSON, as XGBoost writes it: to the values of JSON, arrays of one type to NumPy arrays.

Source: Universal Binary JSON Specification, draft 12 (ubjson.org): types, and optimised containers with type and count.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_ALONE = {b"T": True, b"F": False, b"Z": None}
_DEPTH = 40


def loads(data: bytes) -> Any:
    """Raises ValueError for anything that is not one whole value, and for one that goes on after it."""
    try:
        reader = _Reader(data)
        value = reader.value(reader.take(1), _DEPTH)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"it is no UBJSON ({error})") from None
    if reader.at != len(data):
        raise ValueError("it goes on after its end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError("it is cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind: bytes) -> Any:
        if kind not in _NUMBERS:
            raise ValueError(f"it has a {kind!r} where a number is due")
        return self.array(kind, 1)[0].item()

    def array(self, kind: bytes, count: int) -> np.ndarray[Any, Any]:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def text(self) -> str:
        return self.take(int(self.number(self.take(1)))).decode()

    def value(self, kind: bytes, depth: int) -> Any:
        if depth == 0:
            raise ValueError("it is nested too deep")
        if kind in _ALONE:
            return _ALONE[kind]
        if kind in _NUMBERS:
            return self.number(kind)
        if kind == b"S":
            return self.text()
        if kind == b"[":
            return self.list(depth)
        if kind == b"{":
            return self.table(depth)
        raise ValueError(f"it has a {kind!r} where a value is due")

    def list(self, depth: int) -> Any:
        kind, count, mark = self._head()
        if kind and count is not None:
            return self.array(kind, count) if kind in _NUMBERS else [self.value(kind, depth - 1) for _ in range(count)]
        if count is not None:
            return [self.value(self.take(1), depth - 1) for _ in range(count)]
        items = []
        while mark != b"]":
            items.append(self.value(mark, depth - 1))
            mark = self.take(1)
        return items

    def _head(self) -> tuple[bytes, int | None, bytes]:
        """The type of all items and their count, where they are given, or else the first item's mark."""
        kind, mark = b"", self.take(1)
        if mark == b"$":
            kind, mark = self.take(1), self.take(1)
            if mark != b"#" or kind in _ALONE:
                raise ValueError("it has a type without a count")
        if mark != b"#":
            return b"", None, mark
        count = int(self.number(self.take(1)))
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError("it counts more than there is")
        return kind, count, b""

    def table(self, depth: int) -> dict[str, Any]:
        table = dict[str, Any]()
        while (mark := self.take(1)) != b"}":
            name = self.take(int(self.number(mark))).decode()
            if name in table:
                raise ValueError(f"it says {name} twice")
            table[name] = self.value(self.take(1), depth - 1)
        return table
