"""The server's process: one event loop, one writer, a few readers."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import uvicorn
import uvloop

from noria import door
from noria.config import Settings
from noria.errors import Invalid
from noria.server import connection, home, memory, workers
from noria.server.app import build
from noria.server.live import Hub
from noria.server.route import Beside, State
from noria.server.webhooks import Teller
from noria.store import artifacts, experiments
from noria.store.artifacts import Artifacts
from noria.store.store import Store


def serve(settings: Settings, beside: Callable[[str, str], AbstractContextManager[Beside]], ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. beside: an agent, made with (url, token). ready: told the address once it answers.

    Raises Conflict if another server holds the home, Unavailable for a port in use.
    """
    folder = settings.folder
    if not settings.auth:
        door.check_open(settings.host)
    if settings.workers > 1 and not settings.db:
        raise Invalid("Several processes cannot share a database of SQLite.", "Give --db postgresql://…, or leave --workers out.")
    home.prepare(folder)
    home.lock(folder)
    listening = home.bind(settings.host, settings.port, folder)
    store, tree = open_store(settings), open_tree(settings)
    token = home.token(folder)
    url = door.url(settings.host, listening)
    with beside(url, token) as agent, workers.start(settings, listening, agent):

        def started() -> None:
            home.record(folder, url, settings.auth)
            ready(url)

        run(settings, store, tree, token, listening, agent, started)
    store.close()


def open_store(settings: Settings) -> Store:
    store = Store(settings.db or settings.folder / "noria.db", power=settings.durability == "power")
    store.write(experiments.seed).result()
    return store


def open_tree(settings: Settings) -> Artifacts:
    return artifacts.at(settings.artifacts, settings.folder, power=settings.durability == "power")


def run(
    settings: Settings,
    store: Store,
    tree: Artifacts,
    token: str,
    listening: socket.socket,
    agent: Beside,
    ready: Callable[[], None],
) -> None:
    """The event loop of one server process, until it is told to stop."""
    memory.keep()
    readers, waiters = ThreadPoolExecutor(4, "noria-reader"), ThreadPoolExecutor(8, "noria-waiter")
    teller = Teller(store, waiters)
    state = State(store, tree, Hub(), readers, waiters, agent, teller)
    store.happened, store.queued = agent.wake, teller.wake
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(state, build(state, token, ask=settings.auth), listening, ready))


async def _serve(state: State, app: door.App, listening: socket.socket, ready: Callable[[], None]) -> None:
    state.hub.connect(state.store)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, timeout_graceful_shutdown=2,
        timeout_keep_alive=75, http=connection.Connection, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    connection.Connection.most = connection.room()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn stops at these, and raises them again when it has stopped; what comes after it is to be done all the same.
        signal.signal(number, lambda *_: None)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not task.done():
        await asyncio.sleep(0.002)
    if server.started:
        ready()
    assert state.teller is not None
    minding = [asyncio.create_task(connection.mind(server.server_state.connections)), asyncio.create_task(state.teller.run())]
    await task
    for each in minding:
        each.cancel()


def stop(settings: Settings) -> str:
    """Stop the server of this home; the address it had, or "" if none ran."""
    from noria.process import end

    who = home.holder(settings.folder)
    if who is None or not who.here:
        return ""
    end(who.pid, who.born, grace=10)
    return who.url
