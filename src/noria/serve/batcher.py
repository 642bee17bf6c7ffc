"""A single prediction is a batch of one: requests that wait while the model is busy share its next call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from noria.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Request = tuple[Array, asyncio.Future[Array]]

_WAITING = 1024


class Batcher:
    """One model, one worker thread. No request waits for company: a batch is whoever came while the last one was computed."""

    def __init__(self, predict: Callable[[Array], Array], most: int = 64) -> None:
        """predict: [n, ...] to [n, ...], called by one thread. most: rows in one call."""
        self._predict, self._most = predict, most
        self._waiting: deque[Request] = deque()
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, "noria-worker")
        self._closing = False

    async def predict(self, rows: Array) -> Array:
        """The answers for these rows. Raises what the model raised for them; Unavailable if too many wait already."""
        if len(self._waiting) >= _WAITING:
            raise Unavailable(f"{_WAITING} requests wait already.", "Try again in a moment.")
        future: asyncio.Future[Array] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, future))
        self._arrived.set()
        return await future

    async def run(self) -> None:
        """Serve until it is closed, or for ever; cancel to stop."""
        while not self._closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._serve(self._next())
        self._worker.shutdown(wait=False)

    def close(self) -> None:
        """Serve those who wait, and end. Nobody may ask any more."""
        self._closing = True
        self._arrived.set()

    def _next(self) -> list[Request]:
        """The oldest request, and those behind it whose rows fit into the same array and the same call."""
        group = [self._waiting.popleft()]
        rows = len(group[0][0])
        while (
            self._waiting
            and self._waiting[0][0].shape[1:] == group[0][0].shape[1:]
            and rows + len(self._waiting[0][0]) <= self._most
        ):
            rows += len(self._waiting[0][0])
            group.append(self._waiting.popleft())
        return group

    async def _serve(self, group: list[Request]) -> None:
        import numpy as np

        loop = asyncio.get_running_loop()
        batch = group[0][0] if len(group) == 1 else np.concatenate([rows for rows, _ in group])
        try:
            answers = await loop.run_in_executor(self._worker, self._predict, batch)
        except Exception as error:  # It belongs to whoever asked; alone, so that one bad request does not fail its neighbours.
            if len(group) > 1:
                for request in group:
                    await self._serve([request])
            elif not group[0][1].done():
                group[0][1].set_exception(error)
            return
        start = 0
        for rows, future in group:
            if not future.done():  # Whoever asked may have gone.
                future.set_result(answers[start : start + len(rows)])
            start += len(rows)
