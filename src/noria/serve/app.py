"""One model behind HTTP: a protocol decodes, the batcher queues, the worker predicts, the protocol encodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from noria.door import App, Gate, problem
from noria.errors import Invalid, NoriaError, TooLarge
from noria.serve.follow import Current
from noria.serve.log import VERSION
from noria.serve.protocols import PROTOCOLS, Protocol

BODY = 64 * 2**20


def build(current: Current, token: str, *, ask: bool) -> App:
    """The ASGI application. ask: whether requests must carry the token."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        current.start()
        yield
        current.stop()

    async def alive(_: Request) -> Response:
        return PlainTextResponse("OK")

    protocols = [PROTOCOLS.get(name) for name in PROTOCOLS.names()]
    routes = [Route(protocol.PATH, _handler(protocol, current), methods=["POST"]) for protocol in protocols]
    routes += [Route(path, alive) for path in ("/health", "/ping")]
    handlers: dict[Any, Any] = {NoriaError: _respond, Exception: _respond}
    return Gate(Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers), token, ask=ask)


def _handler(protocol: Protocol, current: Current) -> Any:
    async def handle(request: Request) -> Response:
        body = await _body(request)
        request.scope[VERSION], (model, batcher) = (
            current.version,
            current.loaded,
        )  # Only now: from here to the batcher nothing waits, so that it cannot be closed before.
        rows = model.check(protocol.decode(body, request.headers.get("content-type", "").partition(";")[0]))
        if rows.ndim == 0 or not len(rows):
            raise Invalid("There is no example in this batch.", "Send a list of examples, even of one.")
        answer, kind = protocol.encode(await batcher.predict(rows))
        return Response(answer, media_type=kind)

    return handle


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > BODY:
            raise TooLarge(f"The request's body is over {BODY >> 20} MiB.", "Send smaller batches.")
    return bytes(body)


async def _respond(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, NoriaError) else NoriaError(f"The model failed at this ({type(error).__name__}: {error}).")
    status, headers, body = problem(known)
    return Response(body, status, headers)
