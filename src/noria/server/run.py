"""The server's process: one event loop, one writer, a few readers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol

import uvicorn

from noria.config import Settings
from noria.server import home
from noria.server.app import build
from noria.server.live import Hub
from noria.server.route import State
from noria.store import experiments
from noria.store.artifacts import Artifacts
from noria.store.store import Store
from noria.wire.gate import check_open


class Beside(Protocol):
    """What runs beside the server in its process, such as an agent: started with the server's address."""

    def __enter__(self) -> Callable[[float], bool]:
        """Start. What it returns ships the local spools within so many seconds, and says whether it could."""

    def __exit__(self, *_: object) -> None: ...


def serve(settings: Settings, beside: Callable[[str, str], AbstractContextManager[Callable[[float], bool]]], ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. beside: made with (url, token). ready: told the address once it answers.

    Raises Conflict if another server holds the home, Unavailable for a port in use.
    """
    folder = settings.folder
    if not settings.auth:
        check_open(settings.host)
    home.prepare(folder)
    home.lock(folder)
    listening = home.bind(settings.host, settings.port, folder)
    store = Store(folder / "noria.db")
    store.write(experiments.seed).result()
    token = home.token(folder) if settings.auth else ""
    url = _url(settings.host, listening)
    with beside(url, home.token(folder)) as flush:
        state = State(store, Artifacts(folder / "artifacts"), Hub(), ThreadPoolExecutor(4, "noria-reader"), flush)
        asyncio.run(_serve(build(state, token), listening, lambda: (home.record(folder, url, settings.auth), ready(url))))
    store.close()


def _url(host: str, listening: socket.socket) -> str:
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


async def _serve(app: object, listening: socket.socket, ready: Callable[[], object]) -> None:
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, timeout_graceful_shutdown=2,  # type: ignore[arg-type]
        timeout_keep_alive=75, loop="uvloop", http="httptools",
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not task.done():
        await asyncio.sleep(0.002)
    if server.started:
        ready()
    await task


def stop(settings: Settings) -> str:
    """Stop the server of this home; the address it had, or "" if none ran."""
    from noria.process import end

    who = home.holder(settings.folder)
    if who is None or not who.here:
        return ""
    end(who.pid, who.born, grace=10)
    return who.url


