"""Webhooks: who is told when the registry changes."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from noria.server import webhooks as telling
from noria.server.route import State, answer, read, read_query, write
from noria.store import webhooks
from noria.wire import webhooks as wire


async def test(request: Request, state: State) -> Response:
    asked = await read_query(wire.TEST, request)
    loop = asyncio.get_running_loop()
    hook = await loop.run_in_executor(state.readers, state.store.read, lambda conn: webhooks.row(conn, asked.webhook_id))
    return answer(wire.TEST, wire.Tested(await telling.test(hook, asked)))


ROUTES = [
    write(wire.CREATE, webhooks.create),
    read(wire.LIST, webhooks.list_),
    read(wire.GET, webhooks.get),
    write(wire.UPDATE, webhooks.change),
    write(wire.DELETE, webhooks.remove),
]
STREAMS = [(wire.TEST.method, wire.TEST.path, test)]
