"""Artifacts: contents as streams, listings, and uploads in parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from noria.errors import Invalid, Unavailable
from noria.server.download import PATIENCE, download, in_thread
from noria.server.route import State, read_body
from noria.store import logged_models, registry, runs
from noria.store.store import Connection
from noria.wire import artifacts as wire
from noria.wire import limits
from noria.wire import logged_models as logged_wire
from noria.wire import registry as registry_wire
from noria.wire.endpoint import Empty, convert, decode

T = TypeVar("T")
R = TypeVar("R", covariant=True)
_SMALL = 512 << 10
"""Bytes up to which a file is received whole, and then written in one step."""
_BATCH = 1 << 20
"""Bytes of a larger file that are written at a time."""
_BY_PAGE = 10 << 20


class Sink(Protocol[R]):
    """What takes a body: a large file, or a part of one."""

    def write(self, blocks: Sequence[bytes]) -> None: ...

    def commit(self) -> R: ...

    def abandon(self) -> None: ...


async def put(request: Request, state: State) -> Response:
    """Keep the body at the path. A 200 means that it is there, whole, to stay."""
    path, artifacts = request.path_params["path"], state.artifacts
    length = int(request.headers.get("content-length", -1))
    try:
        if 0 <= length <= _SMALL:
            await artifacts.put(path, await _whole(request), asyncio.get_running_loop().create_future())
        else:
            await _fill(request, state, lambda: artifacts.begin(path, max(length, 0)))
    except ClientDisconnect:
        return Response(status_code=400)  # Nobody is there to read it.
    return Response()


async def _whole(request: Request) -> bytes:
    """A small body."""
    blocks, clock = list[bytes](), asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(PATIENCE) as limit:
            async for block in request.stream():
                blocks.append(block)
                limit.reschedule(clock() + PATIENCE)
    except TimeoutError:
        raise _late() from None
    return b"".join(blocks)


async def _fill(request: Request, state: State, begin: Callable[[], Sink[T]]) -> T:
    """Pour the body into a sink: while a batch is being written, the next one is received."""
    sink = await in_thread(state.artifacts, begin)
    writing: asyncio.Future[None] | None = None
    try:
        async for batch in _batches(request):
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(in_thread(state.artifacts, partial(sink.write, batch)))
        if writing is not None:
            await writing
        return await in_thread(state.artifacts, sink.commit)
    except BaseException:
        if writing is not None:
            await asyncio.gather(writing, return_exceptions=True)  # Nothing is closed that is still written to.
        await in_thread(state.artifacts, sink.abandon)
        raise


async def _batches(request: Request) -> AsyncIterator[list[bytes]]:
    batch, size = list[bytes](), 0
    async for block in _blocks(request):
        batch.append(block)
        size += len(block)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Unavailable when nothing more comes, ClientDisconnect when nothing can."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                block = await anext(stream)
        except TimeoutError:
            raise _late() from None
        if not block:
            return
        yield block


def _late() -> Unavailable:
    return Unavailable(f"Nothing of the body came for {PATIENCE:.0f} s.", "Send it again.")


async def get(request: Request, state: State) -> Response:
    return await download(request, state.artifacts, request.path_params["path"])


async def delete(request: Request, state: State) -> Response:
    path = limits.artifact_path(request.path_params["path"].removesuffix("/"))
    await in_thread(state.artifacts, lambda: state.artifacts.delete(path))
    return _answer(Empty())


def _plain(path: str) -> str:
    """What MLflow's client reads of a run is given as somebody wrote it: `./model` is `model`."""
    return "/".join(part for part in path.split("/") if part != ".")


async def list_root(request: Request, state: State) -> Response:
    path = limits.artifact_path(_plain(request.query_params.get("path", "").removesuffix("/")))
    return _answer(wire.Listed(files=await in_thread(state.artifacts, lambda: state.artifacts.list(path, path))))


async def list_of_run(request: Request, state: State) -> Response:
    return await _list_below(request, state, "path", _of_run(request))


async def list_of_model(request: Request, state: State) -> Response:
    return await _list_below(request, state, "artifact_directory_path", _of_model(request))


async def _list_below(request: Request, state: State, parameter: str, find: Callable[[Connection], str]) -> Response:
    path = limits.served_path(_plain(request.query_params.get(parameter, "").removesuffix("/")))
    uri, root = await _root(state, find)
    files = await in_thread(state.artifacts, lambda: state.artifacts.list(wire.below(root, path), root))
    return _answer(wire.Listed(uri, files))


async def get_of_run(request: Request, state: State) -> Response:
    return await _get_below(request, state, "path", _of_run(request))


async def get_of_version(request: Request, state: State) -> Response:
    return await _get_below(request, state, "path", _of_version(request))


async def get_of_model(request: Request, state: State) -> Response:
    return await _get_below(request, state, "artifact_file_path", _of_model(request))


async def _get_below(request: Request, state: State, parameter: str, find: Callable[[Connection], str]) -> Response:
    path = limits.served_path(_plain(_given(request, parameter)))
    _, root = await _root(state, find)
    return await download(request, state.artifacts, wire.below(root, path))


async def put_by_page(request: Request, state: State) -> Response:
    """MLflow's page sends a small file so."""
    _given(request, "run_uuid")
    path = limits.served_path(_given(request, "path"))
    data = await read_body(request, _BY_PAGE)
    if not data:
        raise Invalid("Request must specify data.", "An empty file is put through mlflow-artifacts.")
    _, root = await _root(state, _of_run(request))
    await state.artifacts.put(wire.below(root, path), data, asyncio.get_running_loop().create_future())
    return _answer(Empty())


async def create_upload(request: Request, state: State) -> Response:
    asked = decode(wire.CreateUpload, await read_body(request))
    name = re.split(r"[/\\]", asked.path)[-1]
    if not name:
        raise Invalid(f"Invalid path: '{asked.path[-200:]}' names no file.")
    path = wire.below(limits.artifact_path(request.path_params["path"].removesuffix("/")), name)
    upload, missing, done = await in_thread(
        state.artifacts, lambda: state.artifacts.uploads.create(path, asked.num_parts, asked.key)
    )
    # Whoever sends the parts knows no more than these; and whoever asks has sent this header with it.
    headers = {name: request.headers[name] for name in ("Authorization",) if name in request.headers}
    url = f"{_address(request)}{wire.PARTS}/{upload}"
    return _answer(wire.Upload(upload, [wire.Credential(f"{url}/{number}", number, headers) for number in missing], done))


def _address(request: Request) -> str:
    """The address that the client reached us by, through whatever stands in between."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", request.url.scheme)
    host = headers.get("x-forwarded-host", headers.get("host", ""))
    return f"{scheme}://{host}{headers.get('x-forwarded-prefix', '').rstrip('/')}"


async def put_part(request: Request, state: State) -> Response:
    upload, number = request.path_params["upload"], request.path_params["number"]
    length = int(request.headers.get("content-length", 0))
    try:
        etag = await _fill(request, state, lambda: state.artifacts.uploads.part(upload, number, length))
    except ClientDisconnect:
        return Response(status_code=400)
    return Response(headers={"ETag": f'"{etag}"'})


async def complete_upload(request: Request, state: State) -> Response:
    asked = decode(wire.CompleteUpload, await read_body(request))
    etags = {part.part_number: part.etag.strip('"') for part in asked.parts if part.etag}
    await in_thread(state.artifacts, lambda: state.artifacts.uploads.complete(asked.upload_id, etags))
    return _answer(Empty())


async def abort_upload(request: Request, state: State) -> Response:
    asked = decode(wire.AbortUpload, await read_body(request))
    await in_thread(state.artifacts, lambda: state.artifacts.uploads.abort(asked.upload_id))
    return _answer(Empty())


def _answer(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _given(request: Request, parameter: str) -> str:
    value = request.query_params.get(parameter)
    if not value:
        raise Invalid(f"Request must specify {parameter}.")
    return value


async def _root(state: State, find: Callable[[Connection], str]) -> tuple[str, str]:
    """An artifact root, as the URI that `find` reads and as a path in the tree."""
    uri = await asyncio.get_running_loop().run_in_executor(state.readers, state.store.read, find)
    return uri, wire.inside(uri)


def _of_run(request: Request) -> Callable[[Connection], str]:
    asked = convert(wire.List, dict(request.query_params))
    return lambda conn: str(runs.row(conn, asked.run_id or asked.run_uuid).artifact_uri)


def _of_model(request: Request) -> Callable[[Connection], str]:
    model_id = request.path_params["model_id"]
    return lambda conn: str(logged_models.row(conn, model_id, deleted=False).artifact_uri)


def _of_version(request: Request) -> Callable[[Connection], str]:
    asked = convert(registry_wire.VersionKey, dict(request.query_params))
    return lambda conn: registry.location(conn, asked.name, asked.version)


_FILE = f"{wire.CONTENT}/{{path:path}}"
STREAMS = [
    ("PUT", _FILE, put),
    ("GET", _FILE, get),
    ("GET", wire.LIST.path, list_of_run),
    ("GET", wire.LIST_ROOT.path, list_root),
    ("DELETE", _FILE, delete),
    ("POST", f"{wire.MULTIPART}/create/{{path:path}}", create_upload),
    ("POST", f"{wire.MULTIPART}/complete/{{path:path}}", complete_upload),
    ("POST", f"{wire.MULTIPART}/abort/{{path:path}}", abort_upload),
    ("PUT", f"{wire.PARTS}/{{upload}}/{{number:int}}", put_part),
    ("GET", "/get-artifact", get_of_run),
    ("GET", "/model-versions/get-artifact", get_of_version),
    ("GET", logged_wire.LIST_ARTIFACTS.path, list_of_model),
    ("GET", logged_wire.LIST_ARTIFACTS.path.replace("directories", "files"), get_of_model),
    ("POST", "/api/2.0/mlflow/upload-artifact", put_by_page),
]
