"""Artifacts: listings by rows, contents as streams."""

from __future__ import annotations

import asyncio
import mimetypes
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from noria.server.route import State, answer
from noria.store import runs
from noria.store.artifacts import Artifacts
from noria.wire import artifacts as wire
from noria.wire import limits
from noria.wire.endpoint import convert

_TEXT = {"MLmodel", "MLproject", "LICENSE", "README"}
_TEXT_ENDINGS = (".txt", ".log", ".yaml", ".yml", ".json", ".csv", ".tsv", ".md", ".py", ".sh", ".cfg", ".toml", ".rst")


def _root(state: State, run_id: str) -> tuple[str, str]:
    """A run's artifact root, as the URI and as a path in the tree."""
    uri = state.store.read(lambda conn: runs.row(conn, run_id)).artifact_uri
    return uri, uri.removeprefix(wire.SCHEME)


async def listed(request: Request, state: State) -> Response:
    asked = convert(wire.List, dict(request.query_params))
    path = limits.artifact_path(asked.path)
    uri, root = await asyncio.to_thread(_root, state, asked.run_id or asked.run_uuid)
    files = state.artifacts.list("/".join(part for part in (root, path) if part), relative_to=root)
    return answer(wire.LIST, wire.Listed(uri, files))


async def listed_root(request: Request, state: State) -> Response:
    path = request.query_params.get("path", "")
    return answer(wire.LIST_ROOT, wire.Listed(files=state.artifacts.list(path, relative_to=path)))


def _download(artifacts: Artifacts, path: str) -> Response:
    file = artifacts.file(path)
    text = file.name in _TEXT or file.suffix in _TEXT_ENDINGS
    kind = "text/plain" if text else mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": f"attachment; filename*=utf-8''{quote(file.name)}"}
    return FileResponse(file, media_type=kind, headers=headers)


async def get(request: Request, state: State) -> Response:
    return _download(state.artifacts, request.path_params["path"])


async def get_of_run(request: Request, state: State) -> Response:
    path = limits.artifact_path(request.query_params.get("path", ""))
    _, root = await asyncio.to_thread(
        _root, state, request.query_params.get("run_id") or request.query_params.get("run_uuid", "")
    )
    return _download(state.artifacts, f"{root}/{path}")


async def put(request: Request, state: State) -> Response:
    upload = state.artifacts.upload(request.path_params["path"])
    try:
        async for block in request.stream():
            if block:
                await asyncio.to_thread(upload.write, block)
        await asyncio.to_thread(upload.commit)
    except BaseException as error:
        upload.abandon()
        if isinstance(error, ClientDisconnect):
            return Response(status_code=400)  # Nobody is there to read it.
        raise
    return Response(b"")


async def delete(request: Request, state: State) -> Response:
    await asyncio.to_thread(state.artifacts.delete, request.path_params["path"])
    return Response(b"{}", media_type="application/json")


STREAMS = [
    ("GET", wire.LIST.path, listed),
    ("GET", wire.LIST_ROOT.path, listed_root),
    ("GET", f"{wire.CONTENT}/{{path:path}}", get),
    ("PUT", f"{wire.CONTENT}/{{path:path}}", put),
    ("DELETE", f"{wire.CONTENT}/{{path:path}}", delete),
    ("GET", "/get-artifact", get_of_run),
]
