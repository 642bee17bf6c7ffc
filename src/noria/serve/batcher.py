"""A single prediction is a batch of one: requests that wait while the model is busy share its next call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from noria.errors import Unavailable
from noria.models import batches

if TYPE_CHECKING:
    Request = tuple[Any, dict[str, Any] | None, asyncio.Future[Any]]

_WAITING = 1024


class Batcher:
    """One model, one worker thread. No request waits for company: a batch is whoever came while the last one was computed."""

    def __init__(self, predict: Callable[..., Any], most: int = 64) -> None:
        """predict: a batch of n rows, and parameters if there are any, to n answers, called by one thread. most: rows in one call."""
        self._predict, self._most = predict, most
        self._waiting: deque[Request] = deque()
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, "noria-worker")

    async def predict(self, rows: Any, params: dict[str, Any] | None = None) -> Any:
        """The answers for these rows. Raises what the model raised for them; Unavailable if too many wait already."""
        if len(self._waiting) >= _WAITING:
            raise Unavailable(f"{_WAITING} requests wait already.", "Try again in a moment.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, params, future))
        self._arrived.set()
        return await future

    async def run(self) -> None:
        """Serve for ever; cancel to stop."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._serve(self._next())

    def _next(self) -> list[Request]:
        """The oldest request, and those behind it whose rows fit into the same batch and the same call."""
        group = [self._waiting.popleft()]
        kind, rows = _kind(group[0]), batches.length(group[0][0])
        while self._waiting and _kind(self._waiting[0]) == kind and rows + batches.length(self._waiting[0][0]) <= self._most:
            rows += batches.length(self._waiting[0][0])
            group.append(self._waiting.popleft())
        return group

    async def _serve(self, group: list[Request]) -> None:
        loop = asyncio.get_running_loop()
        batch, params = batches.join([rows for rows, _, _ in group]), group[0][1]
        try:
            answers = await loop.run_in_executor(self._worker, self._predict, *([batch, params] if params else [batch]))
            if len(group) > 1 and batches.length(answers) != batches.length(batch):
                raise ValueError("its answers are not one for each row")
        except Exception as error:  # It belongs to whoever asked; alone, so that one bad request does not fail its neighbours.
            if len(group) > 1:
                for request in group:
                    await self._serve([request])
            elif not group[0][2].done():
                group[0][2].set_exception(error)
            return
        start = 0
        for rows, _, future in group:
            if not future.done():  # Whoever asked may have gone.
                future.set_result(answers if len(group) == 1 else batches.cut(answers, start, start + batches.length(rows)))
            start += batches.length(rows)


def _kind(request: Request) -> tuple[Any, ...]:
    """What two requests have in common that can be answered in one call."""
    return batches.kind(request[0]), request[1]
