"""One model behind HTTP: a protocol decodes, the batcher queues, the worker predicts, the protocol encodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from noria.door import App, Gate, problem
from noria.errors import Invalid, NoriaError, TooLarge
from noria.models import Predictor, batches
from noria.serve.batcher import Batcher
from noria.serve.protocols import PROTOCOLS, Protocol

BODY = 64 * 2**20


def build(model: Predictor, token: str, *, ask: bool) -> App:
    """The ASGI application. ask: whether requests must carry the token."""
    batcher = Batcher(model.answer)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    async def alive(_: Request) -> Response:
        return PlainTextResponse("OK")

    protocols = [PROTOCOLS.get(name) for name in PROTOCOLS.names()]
    routes = [Route(protocol.PATH, _handler(protocol, model, batcher), methods=["POST"]) for protocol in protocols]
    routes += [Route(path, alive) for path in ("/health", "/ping")]
    handlers: dict[Any, Any] = {NoriaError: _respond, Exception: _respond}
    return Gate(Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers), token, ask=ask)


def _handler(protocol: Protocol, model: Predictor, batcher: Batcher) -> Any:
    async def handle(request: Request) -> Response:
        asked = protocol.decode(await _body(request), request.headers.get("content-type", "").partition(";")[0])
        rows, params = model.check(asked.data), model.params(asked.params)
        if batches.length(rows) < 1:
            raise Invalid("There is no example in this batch.", "Send a list of examples, even of one.")
        body, kind = protocol.encode(await batcher.predict(rows, params))
        return Response(body, media_type=kind)

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
