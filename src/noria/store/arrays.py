"""Columns of many rows on their way to PostgreSQL, as it sends arrays itself: the driver, which knows any value and any array, takes
eight times as long.

Source of the format: array_recv() in PostgreSQL's src/backend/utils/adt/arrayfuncs.c, which has not changed since 8.0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

_HEAD = struct.Struct("!iiIii").pack
"""Dimensions, whether there are NULLs, what the elements are, how many, and the number of the first."""
_NULL = b"\xff\xff\xff\xff"
_LENGTH = struct.Struct("!i").pack


class Array:
    """One parameter of a statement, in whose text stands which kind of array it is."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body


def array(kind: str, values: Sequence[Any]) -> Array:
    """kind: as PostgreSQL calls the elements. Raises OverflowError for an integer that is none of this kind."""
    oid, element = _KINDS[kind]
    try:
        parts = [_NULL if value is None else element(value) for value in values]
    except struct.error as error:
        raise OverflowError(str(error)) from None
    return Array(b"".join([_HEAD(1, None in values, oid, len(parts), 1), *parts]))


def _number(code: str) -> Callable[[Any], bytes]:
    layout = struct.Struct(f"!i{code}")
    size, pack = layout.size - 4, layout.pack
    return lambda value: pack(size, value)


def _blob(value: Any) -> bytes:
    return _LENGTH(len(value)) + value  # type: ignore[no-any-return]


def _text(value: str) -> bytes:
    body = value.encode()
    return _LENGTH(len(body)) + body


_KINDS: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "BIGINT": (20, _number("q")), "INTEGER": (23, _number("i")), "FLOAT(53)": (701, _number("d")),
    "TEXT": (25, _text), "BYTEA": (17, _blob),
}  # fmt: skip


def teach(connection: Any) -> None:
    """Have a connection of psycopg's take such arrays."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class _Dumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: Array) -> bytes:
            return obj.body

    connection.adapters.register_dumper(Array, _Dumper)
