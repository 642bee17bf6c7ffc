"""A disk that fails at its N-th call, for tests that count up until nothing fails any more."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

CALLS = ("open", "write", "pread", "ftruncate", "fsync", "fstat", "replace", "rename", "unlink", "close", "mkdir")
SHORT = 0
"""Not an error: half of the bytes are written or read."""
FAULTS = (errno.EIO, errno.ENOSPC, errno.EINTR, SHORT)


class FaultyOs:
    """Stands in for `os` in a module: the calls of `CALLS` number `first` to `first + times - 1` fail with this error."""

    def __init__(self, first: int, times: int, error: int) -> None:
        self.first, self.times, self.error = first, times, error
        self.calls = 0

    @property
    def reached(self) -> bool:
        return self.calls >= self.first

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._failing(name, real) if name in CALLS else real

    def _failing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if not self.first <= self.calls < self.first + self.times:
                return real(*args, **options)
            if self.error == SHORT:
                return self._short(name, real, args, options)
            if name == "close":  # Linux closes it all the same.
                real(*args)
            raise OSError(self.error, os.strerror(self.error))

        return call

    @staticmethod
    def _short(name: str, real: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if name == "write":
            return real(args[0], args[1][: len(args[1]) // 2])
        if name == "pread":
            return real(args[0], max(1, args[1] // 2), args[2])
        return real(*args, **options)


def until_none_fails(times: int, error: int) -> Iterator[FaultyOs]:
    """A disk that fails at its first call, then one that fails at its second, and so on, until no fault is reached."""
    first = 1
    while True:
        disk = FaultyOs(first, times, error)
        yield disk
        if not disk.reached:
            return
        first += 1
