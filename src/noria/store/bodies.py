"""Runs as JSON, kept in memory between searches: a page that is asked for again costs no more than its place in the order.

A body is kept under what its run was when it was read (see run_versions.py), so nobody has to be told that it is old.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import Connection, Engine

from noria.store import run_load

KEPT = 32 << 20
"""Bytes of bodies that are kept: some 10,000 runs with 35 values each."""
_OVERHEAD = 400
"""Bytes that an entry takes beside its body."""

Version = tuple[str, int]
"""A run's uuid, and how often it was changed."""


class Bodies:
    """Those of one database, the ones that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Version, msgspec.Raw] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def take(self, versions: Sequence[Version]) -> list[msgspec.Raw | None]:
        with self._lock:
            found = [self._kept.get(version) for version in versions]
            for version, body in zip(versions, found, strict=True):
                if body is not None:
                    self._kept.move_to_end(version)
        return found

    def keep(self, versions: Sequence[Version], bodies: Sequence[msgspec.Raw]) -> None:
        with self._lock:
            for version, body in zip(versions, bodies, strict=True):
                if version not in self._kept:
                    self._kept[version] = body
                    self._size += len(memoryview(body)) + _OVERHEAD
            while self._size > KEPT:
                _, body = self._kept.popitem(last=False)
                self._size -= len(memoryview(body)) + _OVERHEAD


_of: WeakKeyDictionary[Engine, Bodies] = WeakKeyDictionary()


def load(conn: Connection, keys: Sequence[int], versions: Sequence[Version]) -> list[msgspec.Raw]:
    """The runs with these keys, which a transaction that reads has found in these versions."""
    kept = _of.setdefault(conn.engine, Bodies())
    found = kept.take(versions)
    missing = [at for at, body in enumerate(found) if body is None]
    fresh = [msgspec.Raw(msgspec.json.encode(run)) for run in run_load.load(conn, [keys[at] for at in missing])]
    kept.keep([versions[at] for at in missing], fresh)
    read = iter(fresh)
    return [body if body is not None else next(read) for body in found]
