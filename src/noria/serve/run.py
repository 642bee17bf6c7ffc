"""The process of an endpoint: it loads, listens, and tells the registry that it serves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from uuid import uuid4

import uvicorn
from msgspec.structs import replace

from noria import door, models
from noria.client.http import Server
from noria.errors import NoriaError
from noria.models.fetch import Fetched
from noria.models.uri import open_fetched
from noria.serve.app import build
from noria.serve.follow import Current, Follower, moves
from noria.serve.log import Keep, keeping
from noria.types import Endpoint
from noria.wire import serving


def serve(
    server: Server,
    fetched: Fetched,
    host: str,
    port: int,
    ready: Callable[[str], None],
    *,
    auth: bool,
    allow_pickle: bool,
    log: Keep | None = None,
    token: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT. ready: told the address once it answers. auth: ask for the server's token. log: how answers are
    written down; None: they are not. token: what is asked for instead of what this process shows the server."""
    if not auth:
        door.check_open(host)

    def load(found: Fetched) -> models.Predictor:
        return open_fetched(found, allow_pickle=allow_pickle)

    current = Current(load(fetched), fetched.version)
    listening = door.listen(host, port)
    url = door.url(host, listening)
    here = Endpoint(
        uuid4().hex[:12], fetched.uri, url, "RUNNING", int(time.time() * 1000), fetched.model_name, fetched.version, fetched.run_id,
        socket.gethostname(), os.getpid())  # fmt: skip

    follower = Follower(server, here, current, load)

    def started() -> None:
        server.call(serving.PUT, serving.Put(here))
        ready(url)

    with keeping(build(current, token or server.token, ask=auth), log, server, here.endpoint_id) as app:
        asyncio.run(_serve(app, listening, started, follower))
    try:
        server.call(serving.PUT, serving.Put(replace(follower.here, state="STOPPED")))
    except NoriaError as error:
        print(f"noria: the end of this endpoint was not recorded: {error.message}", file=sys.stderr)


async def _serve(app: door.App, listening: socket.socket, started: Callable[[], None], follower: Follower) -> None:
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", ws="none", server_header=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn stops at these, and raises them again when it has stopped; what comes after it is to be done all the same.
        signal.signal(number, lambda *_: None)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    if server.started:
        await asyncio.to_thread(started)
    following = asyncio.create_task(follower.run()) if moves(follower.here.model_uri) else None
    await task
    if following is not None:
        following.cancel()
