"""Spools, shipped by relays."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from noria.server.live import CHANGED, Event, Hub
from noria.server.route import Route, State, answer, read, read_body
from noria.store import spools
from noria.types import Metric, number
from noria.wire import spools as wire
from noria.wire.endpoint import decode


def _shipped(hub: Hub, request: wire.Ship, result: tuple[wire.Offset, str]) -> None:
    hub.tell(result[1], lambda: _events(request.frames))


def _events(frames: bytes) -> list[Event]:
    events: list[Event] = []
    for record in wire.records(frames):
        if isinstance(record, wire.Log):
            time = int(record.timestamp * 1000)
            events.append(Event("log", [Metric(key, number(value), time, record.step) for key, value in record.metrics.items()]))
        elif isinstance(record, wire.Points):
            events.append(Event("log", [Metric(key, number(value), time, step) for key, value, time, step in record.points]))
        elif isinstance(record, wire.Rewind):
            events.append(Event("rewind", step=record.step))
        elif not isinstance(record, wire.Header):
            events.append(CHANGED)
    return events


async def flush(request: Request, state: State) -> Response:
    """Waits for the agent of this process; without one there is nothing local to wait for."""
    asked = decode(wire.Flush, await read_body(request))
    done = True
    if state.agent is not None:  # In threads of their own: those who wait must not hold up the uploads that they wait for.
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(state.waiters, state.agent.flush, min(asked.timeout, 60.0))
    return answer(wire.FLUSH, wire.Flushed(done))


ROUTES = [read(wire.OFFSET, spools.offset), Route(wire.SHIP, spools.ship, True, _shipped, lambda result: result[0])]
STREAMS = [(wire.FLUSH.method, wire.FLUSH.path, flush)]
