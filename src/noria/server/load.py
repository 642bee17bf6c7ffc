"""How much a server process does at once. Whoever comes on top of it is told to come again, readers before writers.

MLflow's clients wait and ask again after a 503, so an overload costs time and no data.
"""

from __future__ import annotations

import asyncio

from noria.errors import Unavailable


class Lane:
    """Room for so much of one kind, taken for the length of a `with` block. Belongs to the event loop's thread."""

    __slots__ = ("_kind", "_most", "_taken")

    def __init__(self, kind: str, most: int) -> None:
        self._kind, self._most, self._taken = kind, most, 0

    def __enter__(self) -> None:
        self.take(1)

    def __exit__(self, *_: object) -> None:
        self.leave(1)

    def take(self, amount: int) -> None:
        """Raises Unavailable if there is no room."""
        if self._taken + amount > self._most:
            raise Unavailable(f"The server is at work on {self._taken} {self._kind}, which is all that it takes at once.",
                              "Try again in a second.")  # fmt: skip
        self._taken += amount

    def leave(self, amount: int) -> None:
        self._taken -= amount


READS = Lane("requests to read", 512)
WRITES = Lane("requests to write", 4096)
BODIES = Lane("bytes of large requests", 128 << 20)
"""Of each request, what is over SMALL."""
SMALL = 1 << 20
ONE = asyncio.Semaphore(1)
"""Large bodies are decoded one after the other, since each is many times as large when it is."""
