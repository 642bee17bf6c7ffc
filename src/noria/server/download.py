"""A file as a response: whole, in part, or not at all because the client has it."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from email.utils import formatdate
from typing import NamedTuple, TypeVar
from urllib.parse import quote
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from noria.errors import NoriaError, Unavailable
from noria.store.artifacts import Artifacts, Opened

T = TypeVar("T")
log = logging.getLogger("noria.server")
BLOCK = 256 << 10
"""Bytes that are read at a time. Twice as many are in memory for each reader."""
PATIENCE = 30.0
"""Seconds after which a client that takes or sends nothing is given up."""
_MOST_RANGES = 16
_TEXT = {
    *("txt", "log", "err", "cfg", "conf", "cnf", "cf", "ini", "properties", "prop", "hocon", "toml", "yaml", "yml", "xml"),
    *("json", "js", "py", "py3", "csv", "tsv", "md", "rst", "ipynb", "MLmodel", "mlproject", "MLproject"),
}
_TOKEN = re.compile(r"[\w!#$&+.^`|~-]+", re.ASCII)
_RANGE = re.compile(r"\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*", re.ASCII)


class Piece(NamedTuple):
    """Some bytes that go before, and then those of the file from `start` to `stop`."""

    before: bytes
    start: int
    stop: int


async def download(request: Request, artifacts: Artifacts, path: str) -> Response:
    """The file at a path. A small one is opened, read and closed in one step."""
    opened, content = await in_thread(artifacts, lambda: _open(artifacts, path, request.method))
    headers = _headers(opened, path.rpartition("/")[2])
    status, pieces = _plan(request, headers, opened.size)
    if content is None and pieces:
        return Stream(artifacts, opened, pieces, status, headers)
    if content is None:
        opened.close()
    body = b"".join(piece.before + content[piece.start : piece.stop] for piece in pieces) if content else None
    return Response(body, status, headers)


async def in_thread(artifacts: Artifacts, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(artifacts.pool, work)


def _open(artifacts: Artifacts, path: str, method: str) -> tuple[Opened, bytes | None]:
    """A file; and if it is small, or nothing of it is wanted, its content, and it is closed again."""
    opened = artifacts.open(path)
    if opened.size > BLOCK and method != "HEAD":
        return opened, None
    try:
        return opened, b"" if method == "HEAD" else opened.read(0, opened.size)
    finally:
        opened.close()


def _headers(opened: Opened, name: str) -> dict[str, str]:
    ending = name.rpartition(".")[2]
    kind = "text/plain" if ending in _TEXT else mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {
        "Content-Type": kind,
        "Content-Disposition": _disposition(name),
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": f'"{opened.etag}"',
        "Content-Length": str(opened.size),
    }
    return headers | {"Last-Modified": formatdate(opened.modified, usegmt=True)} if opened.modified else headers


def _disposition(name: str) -> str:
    if _TOKEN.fullmatch(name):
        return f"attachment; filename={name}"
    plain = re.sub(r"[^ -~]", "_", name).replace("\\", "_").replace('"', "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _plan(request: Request, headers: dict[str, str], size: int) -> tuple[int, list[Piece]]:
    """The status and what is to be sent; `headers` are made to fit."""
    asked = request.headers
    if asked.get("if-none-match") in (headers["ETag"], "*"):
        return 304, []
    # Another If-Range than our ETag comes from who has a part of another file, or a date, which is too coarse to tell.
    found = ranges(asked.get("range", ""), size) if asked.get("if-range", headers["ETag"]) == headers["ETag"] else None
    if found is None:
        return 200, [Piece(b"", 0, size)]
    if not found:
        headers |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
        return 416, []
    if len(found) == 1:
        start, stop = found[0]
        headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{size}", "Content-Length": str(stop - start)}
        return 206, [Piece(b"", start, stop)]
    return 206, _several(found, headers, size)


def _several(found: list[tuple[int, int]], headers: dict[str, str], size: int) -> list[Piece]:
    """Several ranges as the parts of one body (RFC 9110, 14.6)."""
    border, kind = uuid4().hex, headers["Content-Type"]
    pieces = [
        Piece(
            f"\r\n--{border}\r\nContent-Type: {kind}\r\nContent-Range: bytes {start}-{stop - 1}/{size}\r\n\r\n".encode(),
            start,
            stop,
        )
        for start, stop in found
    ]
    pieces.append(Piece(f"\r\n--{border}--\r\n".encode(), 0, 0))
    length = sum(len(piece.before) + piece.stop - piece.start for piece in pieces)
    headers |= {"Content-Type": f"multipart/byteranges; boundary={border}", "Content-Length": str(length)}
    return pieces


def ranges(header: str, size: int) -> list[tuple[int, int]] | None:
    """What a Range header asks of a file, as (start, stop); none that can be had: []. None: it asks for nothing that we heed."""
    unit, _, rest = header.partition("=")
    asked = [_RANGE.fullmatch(each) for each in rest.split(",")]
    if unit.strip().lower() != "bytes" or len(asked) > _MOST_RANGES:
        return None
    found = []
    for each in asked:
        if each is None or (each[1] and each[2] and int(each[1]) > int(each[2])):
            return None
        start = int(each[1]) if each[1] else max(0, size - int(each[3]))
        stop = min(size, int(each[2]) + 1) if each[2] else size
        if start < stop:
            found.append((start, stop))
    # Ranges that overlap are asked for by mistake, or to make us send a file many times over.
    return None if sum(stop - start for start, stop in found) > size else found


class Stream(Response):
    """A large file: while a block is being sent, the next one is read."""

    def __init__(self, artifacts: Artifacts, opened: Opened, pieces: list[Piece], status: int, headers: dict[str, str]) -> None:
        super().__init__(None, status, headers)
        self._artifacts, self._opened, self._pieces = artifacts, opened, pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with aclosing(self._blocks()) as blocks:
                async for block in blocks:
                    if gone.done():
                        return
                    async with asyncio.timeout(PATIENCE):
                        await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (TimeoutError, NoriaError) as error:  # What was begun can only be cut off; the client sees that it is not whole.
            log.warning("%s was cut off: %s", scope["path"], error or "the client takes nothing")
        finally:
            gone.cancel()
            self._opened.close()

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        for before, start, stop in self._pieces:
            if before:
                yield before
            ahead = self._read(start, stop) if start < stop else None
            try:
                while ahead is not None:
                    block = await ahead
                    if not block:
                        raise Unavailable("The file ended early; somebody cut it off.")
                    start += len(block)
                    ahead = self._read(start, stop) if start < stop else None
                    yield block
            finally:
                if ahead is not None:
                    await asyncio.wait([ahead])  # Nothing is closed that is still read.

    def _read(self, start: int, stop: int) -> asyncio.Future[bytes]:
        return asyncio.get_running_loop().run_in_executor(
            self._artifacts.pool, self._opened.read, start, min(BLOCK, stop - start)
        )


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
