"""Files behind signed URLs, in the clouds that Databricks stands in: no token goes there, and what breaks off is asked for again.

What each wants is its own: S3 and Google's storage one PUT (S3 takes 5 GiB at once, and more in parts that Databricks signs), Azure's blobs
blocks and a list of them, its data lake a file that is made, appended to and flushed.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from xml.sax.saxutils import escape

from msgspec import Struct

from noria.errors import Invalid, NoriaError, NotFound, Unavailable

PART = 100 << 20
"""Bytes of a block of Azure's, and of a part of S3's."""
_ONCE = 4 << 30
"""Bytes that S3 is sent in one piece at most."""
_TRIES = 6
_BLOCK = 1 << 20
_SECONDS = 120


class Url(Struct, frozen=True):
    """A signed URL. kind: of the cloud, by Databricks' names; headers: which were signed with it."""

    url: str
    kind: str
    headers: dict[str, str] = {}

    def put(self, **query: str) -> str:
        """The same with more of a query, which signatures of Azure's leave free."""
        return self.url + "".join(f"&{key}={quote(value, safe='')}" for key, value in query.items())


def url(found: Mapping[str, Any]) -> Url:
    """What Databricks answers when it is asked for one."""
    return Url(
        found["signed_uri"], str(found.get("type", "")), {each["name"]: each["value"] for each in found.get("headers") or []}
    )


class Parts(Protocol):
    """Who signs the parts of a large file, and puts them together."""

    def begin(self, path: str, count: int) -> tuple[str, list[Url]]: ...

    def end(self, path: str, upload: str, etags: list[str]) -> None: ...


class _Again(Exception):
    """Not now: a new signature, or some time, may help."""


def fetch(sign: Callable[[], Url], path: str, size: int, target: Path) -> None:
    """Download to `target`. What broke off goes on where it stopped. Raises NotFound if it is gone, Unavailable if it never comes whole."""
    why = ""
    with target.open("wb") as out:
        for wait in _waits():
            if out.tell() == size:
                return
            time.sleep(wait)
            try:
                _read(sign(), path, out)
            except _Again as error:
                why = str(error)
    if target.stat().st_size != size:
        raise Unavailable(
            f"'{path}' has {size:,} bytes at Databricks, and {target.stat().st_size:,} came{why and f' ({why})'}.", "Try again."
        )


def _read(signed: Url, path: str, out: Any) -> None:
    have = out.tell()
    headers = {**signed.headers, **({"Range": f"bytes={have}-"} if have else {})}
    with _asked("GET", signed.url, path, headers=headers, stream=True) as answer:
        if answer.status_code != 206:
            out.seek(0)
            out.truncate()
        try:
            for block in answer.iter_content(_BLOCK):
                out.write(block)
        except OSError as error:  # All of requests' errors are OSErrors.
            raise _Again(_short(error)) from None


def send(sign: Callable[[], Url], path: str, source: Path, parts: Parts | None = None) -> None:
    """Upload a file; again is harmless. Raises Unavailable if that does not go."""
    why = ""
    for wait in _waits():
        time.sleep(wait)
        try:
            _sent(sign(), path, source, parts)
            return
        except _Again as error:
            why = str(error)
    raise Unavailable(f"'{path}' could not be sent to the storage of Databricks ({why}).", "Try again.")


def _sent(signed: Url, path: str, source: Path, parts: Parts | None) -> None:
    size = source.stat().st_size
    if signed.kind == "AZURE_ADLS_GEN2_SAS_URI":
        _lake(signed, path, source)
    elif signed.kind == "AZURE_SAS_URI":
        _blob(signed, path, source, size)
    elif signed.kind == "AWS_PRESIGNED_URL" and parts is not None and size > _ONCE:
        upload, urls = parts.begin(path, -(-size // PART))
        etags = [
            _put("PUT", each.url, path, piece, each.headers).headers["ETag"]
            for each, piece in zip(urls, _pieces(source), strict=True)
        ]
        parts.end(path, upload, etags)
    elif signed.kind in ("AWS_PRESIGNED_URL", "GCP_SIGNED_URL"):
        _whole("PUT", signed.url, path, source, size, signed.headers)
    else:
        raise Invalid(f"Databricks keeps '{path}' behind '{signed.kind}', which Noria does not know.", "Upgrade Noria.")


def _blob(signed: Url, path: str, source: Path, size: int) -> None:
    if size <= PART:
        _whole("PUT", signed.url, path, source, size, {"x-ms-blob-type": "BlockBlob", **signed.headers})
        return
    names = []
    for number, piece in enumerate(_pieces(source)):
        names.append(base64.b64encode(f"{number:08d}".encode()).decode())
        _put("PUT", signed.put(comp="block", blockid=names[-1]), path, piece, signed.headers)
    listed = "".join(f"<Latest>{escape(name)}</Latest>" for name in names)
    body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
    _put("PUT", signed.put(comp="blocklist"), path, body, signed.headers)


def _lake(signed: Url, path: str, source: Path) -> None:
    _put("PUT", signed.put(resource="file"), path, b"", signed.headers)
    at = 0
    for piece in _pieces(source):
        _put("PATCH", signed.put(action="append", position=str(at)), path, piece, signed.headers)
        at += len(piece)
    _put("PATCH", signed.put(action="flush", position=str(at)), path, b"", signed.headers)


def _pieces(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        yield from iter(lambda: file.read(PART), b"")


def _whole(method: str, where: str, path: str, source: Path, size: int, headers: Mapping[str, str]) -> None:
    with source.open("rb") as file:
        _put(
            method, where, path, file if size else b"", headers
        )  # Of an empty file requests would make chunks, which S3 refuses.


def _put(method: str, where: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
    with _asked(method, where, path, data=body, headers=dict(headers)) as answer:
        return answer


def _asked(method: str, where: str, path: str, **more: Any) -> Any:
    """An answer that is a success. Raises _Again for what may pass, also for a signature that has run out."""
    import requests

    try:
        # The empty `auth` keeps ~/.netrc out of it: a signed URL with a token besides is refused.
        answer = requests.request(method, where, auth=lambda request: request, timeout=_SECONDS, **more)
    except requests.exceptions.RequestException as error:
        raise _Again(_short(error)) from None
    if answer.status_code < 400:
        return answer
    answer.close()
    raise _why(answer.status_code, path)


def _why(status: int, path: str) -> Exception:
    if status in (401, 403, 408, 429) or status >= 500:
        return _Again(f"status {status}")
    found: type[NoriaError] = NotFound if status == 404 else Invalid
    return found(f"The storage of Databricks has no '{path}'." if status == 404 else f"The storage of Databricks refused '{path}' ({status}).")  # fmt: skip


def _short(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__


def _waits() -> Iterator[float]:
    """Seconds before each try; the one after the last is there to look at the last one's result."""
    return iter([0.0, *(0.5 * 2**number for number in range(_TRIES - 1))])
