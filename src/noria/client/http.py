"""The wire, from this side: a row of `wire` and a request in, a response or a NoriaError out."""

from __future__ import annotations

import http.client
import json
import os
import socket
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from select import select
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from noria import process
from noria.errors import Conflict, Invalid, NoriaError, NotFound, Unauthenticated, Unavailable, WrongVersion, from_wire
from noria.wire import artifacts
from noria.wire.endpoint import CAUSE_HEADER, OWN, PROTOCOL, PROTOCOL_HEADER, USER_HEADER, Endpoint, decode, encode

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R")
PART = 16 << 20
"""Bytes of a file from which on it goes in parts, and of each part of it."""
_MOST_PARTS = 9000
_BLOCK = 1 << 20
_TRIES = 3


class Server:
    """A server at an address. One kept-alive connection; not for use by several threads at once."""

    def __init__(self, url: str, token: str = "", timeout: float = 30) -> None:
        """url: `http://host:port` or https. timeout: seconds without any answer."""
        parts = urlsplit(url)
        self.url, self.token, self.timeout = url.rstrip("/"), token, timeout
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address, self._base = parts.netloc, parts.path.rstrip("/")
        self._user = quote(process.whoami(), safe="")
        self.cause: Sequence[str] = ()
        """The firings of rules that lead to what is asked from here on."""
        self._connection: http.client.HTTPConnection | None = None

    def call(self, endpoint: Endpoint[Q, R], request: Q) -> R:
        """One request, one answer. Raises the server's own error, Unavailable without an answer, WrongVersion for another protocol."""
        fields = msgspec.structs.asdict(request)
        path = endpoint.path.format(**{name: quote(str(fields[name]), safe="") for name in endpoint.path_fields})
        body = None
        if endpoint.method == "GET":
            path += _query({name: value for name, value in fields.items() if name not in endpoint.path_fields})
        else:
            body = encode(endpoint, request)
        answer = self._request(endpoint.method, path, body, f"application/{endpoint.codec}")
        with answer:
            return decode(endpoint.response, self._body(answer), endpoint.codec)

    def upload(self, run_root: str, path: str, source: Path) -> None:
        """Put a file at `path` below an artifact root such as `mlflow-artifacts:/0/<run>/artifacts`; again is harmless.

        A large file goes in parts. If that was interrupted, the next call sends what is still missing, whichever process it is in.
        """
        if source.stat().st_size > PART:
            self._upload_parts(artifacts.below(artifacts.inside(run_root), path), source)
            return
        with source.open("rb") as body:
            self._put(self._content(run_root, path), body)

    def _put(self, where: str, body: bytes | BinaryIO) -> None:
        with self._request("PUT", where, body, "application/octet-stream") as answer:
            self._body(answer)

    def _upload_parts(self, path: str, source: Path) -> None:
        folder, _, name = path.rpartition("/")
        found = source.stat()
        size = max(PART, -(-found.st_size // _MOST_PARTS))
        asked = artifacts.CreateUpload(name, -(-found.st_size // size), f"{found.st_size} {found.st_mtime_ns} {size}")
        for _ in range(_TRIES):
            upload = self._ask("create", folder, asked, artifacts.Upload)
            if upload.done:
                return
            try:
                parts = list(self._send_parts(upload, source, size))
                self._ask("complete", folder, artifacts.CompleteUpload(name, upload.upload_id, parts), dict)
                return
            except (Conflict, NotFound):
                pass  # A part came otherwise than it was sent, or somebody gave the upload up. What is missing is sent again.
        raise Unavailable(
            f"'{source}' did not arrive as it is, {_TRIES} times.", "Make sure that nobody writes to it, and try again."
        )

    def _send_parts(self, upload: artifacts.Upload, source: Path, size: int) -> Iterator[artifacts.Part]:
        """Send the parts that are missing; of those that are there, too, say what they must be."""
        missing = {each.part_number for each in upload.credentials}
        with source.open("rb") as file:
            for number, content in enumerate(iter(lambda: file.read(size), b""), 1):
                if number in missing:
                    self._put(f"{artifacts.PARTS}/{upload.upload_id}/{number}", content)
                yield artifacts.Part(number, f"{zlib.crc32(content):08x}")

    def _ask(self, verb: str, folder: str, body: msgspec.Struct, kind: type[R]) -> R:
        where = f"{artifacts.MULTIPART}/{verb}/{quote(folder)}"
        with self._request("POST", where, msgspec.json.encode(body), "application/json") as answer:
            return decode(kind, self._body(answer))

    def delete(self, place: str) -> None:
        """Remove the file or the folder that an artifact URI means; nothing happens if there is none."""
        path = artifacts.inside(place)
        if not path:
            raise Invalid(f"'{place}' is all of the server's artifacts.", "Name a file or a folder.")
        with self._request("DELETE", f"{artifacts.CONTENT}/{quote(path)}", None, "") as answer:
            self._body(answer)

    def download(self, root: str, path: str, target: Path, most: int | None = None) -> None:
        """Fetch one artifact file to `target`, written beside and renamed. What breaks off goes on where it stopped, if the file is the same.

        most: bytes that it was said to have. Raises Invalid as soon as more come.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.part")
        etag, have = "", -1
        with beside.open("wb") as out:
            while out.tell() > have:  # Each try that brought something is followed by another.
                have = out.tell()
                headers = {"Range": f"bytes={have}-", "If-Range": etag} if have else {}
                with self._request("GET", self._content(root, path), None, "", headers) as answer:
                    if answer.status != 206:
                        out.seek(0)
                        out.truncate()
                    etag = answer.headers.get("ETag", "")
                    if self._copy(answer, out, path, most):
                        break
            else:
                raise Unavailable(f"The download of '{path}' from {self.url} broke off after {have} bytes.", "Try again.")
        os.replace(beside, target)

    def _copy(self, answer: http.client.HTTPResponse, out: BinaryIO, path: str, most: int | None) -> bool:
        """Whether all of it came; what came is written."""
        while True:
            try:
                block = answer.read(_BLOCK)
            except (OSError, http.client.HTTPException):
                block = b""
            if not block:
                break
            if most is not None and out.tell() + len(block) > most:
                self.close()
                raise Invalid(
                    f"'{path}' is larger than the {most} bytes that {self.url} said it has.", "Try again, or look at that server."
                )
            out.write(block)
        if answer.length:
            self.close()
        return not answer.length

    def stream(self, path: str, fields: dict[str, Any]) -> Iterator[bytes]:
        """The lines of an answer that goes on until the server ends it. Nothing else may be asked here meanwhile."""
        with self._request("GET", path + _query(fields), None, "") as answer:
            try:
                yield from answer
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"The server at {self.url} has gone ({_why(error)}).", "Is it being restarted?") from None
            finally:
                self.close()

    def tree(self, root: str, path: str = "") -> Iterator[str]:
        """The paths of all files below an artifact root, relative to the root."""
        where = artifacts.below(artifacts.inside(root), path)
        for file in self.call(artifacts.LIST_ROOT, artifacts.ListRoot(where)).files:
            below = f"{path}/{file.path}" if path else file.path
            if file.is_dir:
                yield from self.tree(root, below)
            else:
                yield below

    @staticmethod
    def _content(root: str, path: str) -> str:
        return f"{artifacts.CONTENT}/{quote(artifacts.below(artifacts.inside(root), path))}"

    def _request(self, method: str, path: str, body: Any, kind: str, extra: Mapping[str, str] = {}) -> http.client.HTTPResponse:
        headers = {"Content-Type": kind, **extra} if kind else {**extra}
        headers |= {PROTOCOL_HEADER: str(PROTOCOL), USER_HEADER: self._user}
        if self.cause:
            headers[CAUSE_HEADER] = ",".join(quote(each, safe="") for each in self.cause)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        answer = self._send(method, self._base + path, body, headers)
        self._check_protocol(answer, path)
        if answer.status >= 400:
            raise self._error(answer)
        return answer

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._connection is not None and _over(self._connection):
            self.close()
        try:
            if self._connection is None:
                self._connection = self._kind(self._address, timeout=self.timeout, blocksize=_BLOCK)
                self._connection.connect()
                self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.request(method, path, body, headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from None

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from None

    def _gone(self, error: Exception) -> Unavailable:
        self.close()
        return Unavailable(
            f"No Noria server answers at {self.url} ({_why(error)}).", "Start one with `noria server`, or check NORIA_SERVER."
        )

    def _check_protocol(self, answer: http.client.HTTPResponse, path: str) -> None:
        theirs = answer.headers.get(PROTOCOL_HEADER, "")
        version, _, protocol = theirs.partition(";")
        if not theirs and path.startswith(OWN):
            self.close()
            raise WrongVersion(f"What answers at {self.url} is not a Noria server.", "Check NORIA_SERVER or --port.")
        if theirs and protocol != str(PROTOCOL):
            self.close()
            raise WrongVersion(
                f"The server at {self.url} is Noria {version} and speaks protocol {protocol}, this client speaks {PROTOCOL}.",
                "Upgrade the older of the two (`pip install -U noria`, then `noria server stop`).",
            )

    def _error(self, answer: http.client.HTTPResponse) -> NoriaError:
        body = self._body(answer)
        try:
            fields = cast(dict[str, str], json.loads(body))
            return from_wire(answer.status, fields["error_code"], fields["message"])
        except (ValueError, KeyError, TypeError):
            if answer.status == 401:
                return Unauthenticated(
                    f"The server at {self.url} does not know this token.", "Set NORIA_TOKEN; `noria env` shows it."
                )
            return from_wire(answer.status, "", f"The server at {self.url} answered {answer.status} {answer.reason}.")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _over(connection: http.client.HTTPConnection) -> bool:
    """Whether a kept connection was closed: by an answer that said so, or by the server since (then there is an end to read)."""
    return connection.sock is None or bool(select([connection.sock], [], [], 0)[0])


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (
        os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error) or type(error).__name__
    ).lower()


def _query(fields: dict[str, Any]) -> str:
    given = {name: value for name, value in fields.items() if value not in ("", [], None, msgspec.UNSET)}
    pairs = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
    return f"?{urlencode(pairs, doseq=True)}" if pairs else ""
