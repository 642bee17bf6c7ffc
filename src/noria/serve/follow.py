"""An endpoint follows its URI: what `models:/NAME/Production` means may be another version by now.

The new one is loaded beside the old one, which answers until then; those who wait for the old one get their answers from it. If the new one
cannot be loaded, the old one stays, and the endpoint's record says why.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable

from msgspec.structs import replace

from noria.client.http import Server
from noria.errors import NoriaError, Unavailable
from noria.models import Predictor
from noria.models.fetch import Fetched, fetch, resolve
from noria.serve.batcher import Batcher
from noria.types import Endpoint
from noria.wire import serving

EVERY = 2.0
"""Seconds between two questions which version it is."""
_AGAIN = 60.0
"""Seconds after which a version that could not be loaded is tried once more."""


class Current:
    """The model that answers just now, its batcher, and which version it is. Of one event loop; take `loaded` and ask it without an await
    in between."""

    def __init__(self, model: Predictor, version: str = "") -> None:
        self.loaded, self.version = (model, Batcher(model.predict)), version
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        task = asyncio.create_task(self.loaded[1].run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def switch(self, model: Predictor, version: str = "") -> None:
        """From now on this one answers; what waits for the old one is still answered by it."""
        _, old = self.loaded
        self.loaded, self.version = (model, Batcher(model.predict)), version
        self.start()
        old.close()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


def moves(uri: str) -> bool:
    """Whether a URI may mean another version later: by a stage, an alias, or the latest."""
    return uri.startswith("models:/") and re.fullmatch(r"models:/[^/@]+/\d+", uri) is None


class Follower:
    """Keeps a served model and its record at what the URI means. `here` is the record as it was told last."""

    def __init__(self, server: Server, here: Endpoint, current: Current, load: Callable[[Fetched], Predictor]) -> None:
        """load: makes a model of what was fetched; called in a thread, and so are all questions to the server."""
        self.here = here
        self._server = Server(server.url, server.token)
        self._current, self._load = current, load
        self._failed: tuple[str, float] = ("", 0.0)

    async def run(self, every: float = EVERY) -> None:
        """Follow until it is cancelled."""
        while True:
            await asyncio.sleep(every)
            try:
                await self._look()
            except NoriaError:
                continue  # What was served last is served on until somebody answers again.

    async def _look(self) -> None:
        try:
            name, version, run_id = await asyncio.to_thread(resolve, self._server, self.here.model_uri)
        except Unavailable:
            raise
        except NoriaError as error:  # Nothing stands there: better an old answer than none.
            await self._tell(problem=error.message)
            return
        if version == self.here.version:
            await self._tell(problem="")
        elif self._failed[0] != version or time.monotonic() > self._failed[1]:
            await self._follow(name, version, run_id)

    async def _follow(self, name: str, version: str, run_id: str) -> None:
        try:
            model = await asyncio.to_thread(self._fetched, name, version)
        except Unavailable:
            raise
        except (
            Exception
        ) as error:  # Loading may raise anything at all, and those who are served by the old one are not to notice.
            why = error.message if isinstance(error, NoriaError) else f"{type(error).__name__}: {error!s:.300}"
            self._failed = (version, time.monotonic() + _AGAIN)
            await self._tell(problem=f"{name} {version} cannot be served, so {self.here.version} stays: {why}")
            return
        self._current.switch(model, version)
        self._failed = ("", 0.0)
        print(f"noria: {self.here.model_uri} is version {version} now", file=sys.stderr)
        await self._tell(problem="", version=version, run_id=run_id)

    def _fetched(self, name: str, version: str) -> Predictor:
        """By its number: what the URI means may have moved on since."""
        return self._load(fetch(self._server, f"models:/{name}/{version}"))

    async def _tell(self, **changes: str) -> None:
        told = replace(self.here, **changes)
        if told == self.here:
            return
        if told.problem and told.problem != self.here.problem:
            print(f"noria: {told.problem}", file=sys.stderr)
        await asyncio.to_thread(self._server.call, serving.PUT, serving.Put(told))
        self.here = told
