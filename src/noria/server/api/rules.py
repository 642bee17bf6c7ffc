"""Rules, for people and for engines; and what monitors have seen."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from noria.server import rules as work
from noria.server.route import Route, State, answer, read, read_query, write
from noria.store import events, firings, rules, settling, steps
from noria.store.experiments import now
from noria.wire import rules as wire


async def claim(request: Request, state: State) -> Response:
    """An engine that asks in vain costs a look, and no transaction of the writer."""
    asked = await read_query(wire.CLAIM, request)
    loop = asyncio.get_running_loop()
    again = await loop.run_in_executor(state.readers, state.store.read, lambda conn: settling.pending(conn, now()))
    if again:
        return answer(wire.CLAIM, wire.Claimed([], again))
    found = await state.store.write(lambda conn: work.claim(conn, asked, now()), loop.create_future())
    return answer(wire.CLAIM, found)


ROUTES = [
    Route(wire.ADD, lambda conn, asked, user: work.add(conn, asked, user, now()), True, makes_work=True, signed=True),
    Route(wire.LIST, rules.list_, False, reply=work.listed),
    Route(wire.GET, rules.get, False, reply=work.shown),
    write(wire.REMOVE, rules.remove),
    Route(wire.PAUSE, lambda conn, asked: work.pause(conn, asked, now()), True, makes_work=True),
    Route(wire.FIRE, lambda conn, asked, user: work.fire(conn, asked, user, now()), True, makes_work=True, signed=True),
    read(wire.TEST, lambda conn, asked: work.test(conn, asked, now())),
    read(wire.HISTORY, firings.history),
    read(wire.FIRING, firings.one),
    write(wire.POST, events.post),
    write(wire.REPORT, lambda conn, asked: work.report(conn, asked, now())),
    write(wire.RENEW, lambda conn, asked: steps.renew(conn, asked, now())),
]
STREAMS = [(wire.CLAIM.method, wire.CLAIM.path, claim)]
