"""From a row of `wire` and a function of `store` to an HTTP route."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from noria.door import JOB
from noria.errors import Invalid, NoriaError, TooLarge
from noria.server import load
from noria.server.live import Hub
from noria.server.webhooks import Teller
from noria.store import events, jobs
from noria.store.artifacts import Artifacts
from noria.store.metrics import Append
from noria.store.store import Connection, Store
from noria.wire import limits
from noria.wire.endpoint import CAUSE_HEADER, USER_HEADER, Empty, Endpoint, convert, decode, encode, unpacked
from noria.wire.rules import DEEPEST

Q = TypeVar("Q")
R = TypeVar("R")
Tell = Callable[[Hub, Any, Any], None]


class Beside(Protocol):
    """An agent that runs in this process."""

    def flush(self, timeout: float) -> bool:
        """Ship what lies in the local spools by now, within so many seconds; whether that was done."""

    def wake(self) -> None:
        """There is new work. Returns at once."""


class State(Struct, frozen=True):
    """What every handler may use; `agent` is None where no agent runs in this process, and `teller` where webhooks are left to others."""

    store: Store
    artifacts: Artifacts
    hub: Hub
    readers: ThreadPoolExecutor
    waiters: ThreadPoolExecutor
    agent: Beside | None = None
    teller: Teller | None = None


class Route(Struct, frozen=True):
    """One row and what answers it. `tell` informs watchers after the commit; `packed` says whether a request comes down to metrics
    alone; `reply` picks the response from the result; `makes_work` wakes the agent; `by_job` is written besides when a job asks,
    with its id and the result; `signed` work is also told who asks."""

    endpoint: Endpoint[Any, Any]
    work: Callable[..., Any]
    writes: bool
    tell: Tell | None = None
    reply: Callable[[Any], Any] | None = None
    makes_work: bool = False
    by_job: Callable[[Connection, str, Any], None] | None = None
    packed: Callable[[Any], Append | None] | None = None
    signed: bool = False


def read(endpoint: Endpoint[Q, R], work: Callable[[Connection, Q], R]) -> Route:
    return Route(endpoint, work, False)


def write(
    endpoint: Endpoint[Q, R],
    work: Callable[[Connection, Q], R | None],
    tell: Tell | None = None,
    packed: Callable[[Q], Append | None] | None = None,
) -> Route:
    return Route(endpoint, work, True, tell, packed=packed)


def signed(endpoint: Endpoint[Q, R], work: Callable[[Connection, Q, str], R | None]) -> Route:
    """A write that keeps who did it."""
    return Route(endpoint, work, True, signed=True)


def handler(route: Route, state: State) -> Callable[[Request], Awaitable[Response]]:
    """The coroutine that Starlette calls."""

    lane = load.WRITES if route.writes else load.READS

    async def handle(request: Request) -> Response:
        query = await read_query(route.endpoint, request)
        loop = asyncio.get_running_loop()
        work = _following(request, route.work)
        with lane:
            if not route.writes:
                result = await loop.run_in_executor(state.readers, state.store.read, lambda conn: route.work(conn, query))
            elif route.packed is not None and (batch := route.packed(query)) is not None:
                result = await state.store.append(batch, loop.create_future())
            elif route.signed:
                said, job = who(request), request.scope.get(JOB, "")
                signed = lambda conn: work(conn, query, said or jobs.user(conn, job))  # noqa: E731
                result = await state.store.write(signed, loop.create_future())
            else:
                result = await state.store.write(lambda conn: work(conn, query), loop.create_future())
            job_id = request.scope.get(JOB)
            if route.by_job is not None and job_id:
                follow = route.by_job
                await state.store.write(lambda conn: follow(conn, job_id, result), loop.create_future())
        if route.tell is not None:
            route.tell(state.hub, query, result)
        if route.makes_work and state.agent is not None:
            state.agent.wake()
        return answer(route.endpoint, route.reply(result) if route.reply else result)

    return handle


def _following(request: Request, work: Callable[..., Any]) -> Callable[..., Any]:
    """Work that says of what it does which firings of rules led to it, if the request does."""
    given = request.headers.get(CAUSE_HEADER, "")
    if not given:
        return work
    chain = [unquote(each)[:256] for each in given.split(",")[: DEEPEST + 1]]
    return lambda conn, *asked: events.following(conn, chain, lambda: work(conn, *asked))


def who(request: Request) -> str:
    """Who asks, as the client says it: our own in a header, others by the name that they give beside the token; "" if neither does."""
    said = unquote(request.headers.get(USER_HEADER, ""))
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if not said and scheme.lower() == "basic":
        try:
            said = base64.b64decode(value).decode().partition(":")[0]
        except ValueError:
            return ""
    return "".join(each for each in said[:256] if each.isprintable())


def answer(endpoint: Endpoint[Any, Any], result: object) -> Response:
    body = encode(endpoint, Empty() if result is None else result)
    return Response(body, media_type=f"application/{endpoint.codec}")


async def read_query(endpoint: Endpoint[Any, Any], request: Request) -> Any:
    """The request's Struct, from the path, the query and the body."""
    inpath = dict(request.path_params)
    if endpoint.method == "GET" and request.query_params:
        return convert(endpoint.request, {**_parameters(endpoint.request, request), **inpath})
    body = await read_body(request)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if body and kind != f"application/{endpoint.codec}":
        raise Invalid(f"Bad Request. Content-Type must be one of ['application/{endpoint.codec}'].", f"It is '{kind[:80]}'.")
    if not inpath:
        if len(body) > load.SMALL:
            async with load.ONE:
                return await asyncio.to_thread(decode, endpoint.request, body, endpoint.codec)
        return decode(endpoint.request, body, endpoint.codec)
    fields = decode(dict[str, Any], body, endpoint.codec)
    return convert(endpoint.request, {**fields, **inpath})


def _parameters(kind: type, request: Request) -> dict[str, object]:
    """Query parameters; what the Struct has as a list may be repeated."""
    lists = {name for name, hint in kind.__annotations__.items() if "list[" in str(hint)}
    query = request.query_params
    return {name: query.getlist(name) if name in lists else query[name] for name in query}


async def read_body(request: Request, limit: int = limits.BODY) -> bytes:
    """The body, never more than `limit` bytes of it in memory."""
    blocks, size, taken = [], 0, 0
    if int(request.headers.get("content-length") or 0) > limit:
        raise _too_large(limit)
    try:
        async for block in request.stream():
            size += len(block)
            if size > limit:
                raise _too_large(limit)
            if size > load.SMALL:
                load.BODIES.take(len(block))
                taken += len(block)
            blocks.append(block)
        return unpacked(b"".join(blocks), request.headers.get("content-encoding", ""), limit)
    except ClientDisconnect:
        raise NoriaError("The client went away before the end of its request.") from None
    finally:
        load.BODIES.leave(taken)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request's body is over {limit >> 20} MiB.", "Split it up, or log large things as artifacts.")
