"""The wire, from this side: a row of `wire` and a request in, a response or a NoriaError out."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from noria.errors import NoriaError, Unauthenticated, Unavailable, WrongVersion, from_wire
from noria.wire import artifacts
from noria.wire.endpoint import OWN, PROTOCOL, PROTOCOL_HEADER, Endpoint, decode, encode

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R")


class Server:
    """A server at an address. One kept-alive connection; not for use by several threads at once."""

    def __init__(self, url: str, token: str = "", timeout: float = 30) -> None:
        """url: `http://host:port` or https. timeout: seconds without any answer."""
        parts = urlsplit(url)
        self.url, self.token, self.timeout = url.rstrip("/"), token, timeout
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address, self._base = parts.netloc, parts.path.rstrip("/")
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
        """Put a file at `path` below an artifact root such as `mlflow-artifacts:/0/<run>/artifacts`; again is harmless."""
        with source.open("rb") as body:
            answer = self._request("PUT", self._content(run_root, path), body, "application/octet-stream")
        with answer:
            self._body(answer)

    def download(self, root: str, path: str, target: Path) -> None:
        """Fetch one artifact file to `target`, written beside and renamed."""
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.part")
        with self._request("GET", self._content(root, path), None, "") as answer, beside.open("wb") as out:
            while block := answer.read(1 << 20):
                out.write(block)
        os.replace(beside, target)

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
        where = "/".join(part for part in (root.removeprefix(artifacts.SCHEME), path) if part)
        for file in self.call(artifacts.LIST_ROOT, artifacts.ListRoot(where)).files:
            below = f"{path}/{file.path}" if path else file.path
            if file.is_dir:
                yield from self.tree(root, below)
            else:
                yield below

    @staticmethod
    def _content(root: str, path: str) -> str:
        return f"{artifacts.CONTENT}/{quote(root.removeprefix(artifacts.SCHEME))}/{quote(path)}"

    def _request(self, method: str, path: str, body: Any, kind: str) -> http.client.HTTPResponse:
        headers = {"Content-Type": kind} if kind else {}
        headers[PROTOCOL_HEADER] = str(PROTOCOL)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        answer = self._send(method, self._base + path, body, headers)
        self._check_protocol(answer, path)
        if answer.status >= 400:
            raise self._error(answer)
        return answer

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> http.client.HTTPResponse:
        # A kept connection that the server has closed meanwhile can be read: it says so at once, before anything is sent.
        if self._connection is not None and select([self._connection.sock], [], [], 0)[0]:
            self.close()
        try:
            if self._connection is None:
                self._connection = self._kind(self._address, timeout=self.timeout)
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
