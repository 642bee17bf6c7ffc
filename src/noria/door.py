"""Who may speak to a process of ours. Deny by default: what is not listed as open needs the token, whatever route is added later.

Plain ASGI, so that every process can put it in front of what it serves.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hmac
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from noria.errors import Forbidden, Invalid, NoriaError, Unauthenticated, Unavailable
from noria.version import __version__
from noria.wire.endpoint import PROTOCOL, PROTOCOL_HEADER

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

JOB = "noria.job"
"""In a request's scope: the job that speaks."""
_ANY = {"0.0.0.0", "::"}  # noqa: S104 (compared with, not listened on)
_OPEN = {"/", "/health", "/ping", "/version", "/favicon.ico", "/icon.svg", "/index.html"}
_CLASSES = {
    **{code: code for code in ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "RESOURCE_ALREADY_EXISTS")},
    "BAD_REQUEST": "INVALID_PARAMETER_VALUE",
    "RESOURCE_DOES_NOT_EXIST": "RESOURCE_NOT_FOUND",
    **dict.fromkeys(("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"), "CLIENT_INTERNAL_ERROR"),
}
"""What MLflow's servers add to an error's code since 3.17."""
_HARMLESS = {"GET", "HEAD", "OPTIONS"}
_STAMP = (PROTOCOL_HEADER.encode(), f"{__version__};{PROTOCOL}".encode())


class Gate:
    """Every request passes here first; every answer is stamped with version and protocol here."""

    def __init__(self, app: App, token: str, *, ask: bool = True) -> None:
        """ask: whether a token is asked for; if not, only clients and pages of this machine may speak.

        Raises Invalid for an empty token that is to be asked for: everybody would have it.
        """
        if ask and not token:
            raise Invalid("There is no token to ask for.", "Set NORIA_TOKEN to that of the server, or say --no-auth.")
        self.app, self.token, self.ask = app, token, ask

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _STAMP]
            await send(message)

        if scope["path"].startswith("//"):  # MLflow's own page asks so when its address ends in a slash.
            scope["path"] = "/" + scope["path"].lstrip("/")
        headers = dict(scope["headers"])
        refusal = self._problem(scope, headers)
        if refusal is not None:
            await _refuse(refusal, stamped, by_page=b"sec-fetch-mode" in headers)
            return
        await self.app(scope, receive, stamped)

    def _problem(self, scope: Message, headers: dict[bytes, bytes]) -> Forbidden | Unauthenticated | None:
        if scope["method"] not in _HARMLESS and _elsewhere(headers):
            return Forbidden(
                "Cross-origin request blocked: a page of another site asked for a change.", "Open this server's own page."
            )
        path, presented = scope["path"], _presented(headers.get(b"authorization", b""))
        job, dot, _ = presented.partition(b".")
        job_id = job.decode("latin-1")
        if dot and hmac.compare_digest(presented, job_token(self.token, job_id).encode()):
            scope[JOB] = job_id
            return None
        if not self.ask:
            return self._foreign(headers)
        if path in _OPEN or path.startswith("/assets/") or hmac.compare_digest(presented, self.token.encode()):
            return None
        return Unauthenticated(
            "This server asks for a token, and none or a wrong one came with the request.",
            "`noria env` prints the exports that clients need; it stands in the file `token` in the server's home.",
        )

    @staticmethod
    def _foreign(headers: dict[bytes, bytes]) -> Forbidden | None:
        """Without a token, a page of another site must not reach us, neither by its own name (DNS rebinding) nor across origins."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if not _loopback(name.strip("[]")) or _elsewhere(headers):
            return Forbidden("Cross-origin request blocked: this server runs without a token, for this machine alone.",
                             "Start it without --no-auth.")  # fmt: skip
        return None


def _elsewhere(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another site sent this. A browser says so; behind a proxy its word counts more than our name."""
    site = headers.get(b"sec-fetch-site", b"").lower()
    if site:
        return site == b"cross-site"
    origin = headers.get(b"origin", b"").lower()
    return bool(origin) and origin.partition(b"://")[2] not in (
        headers.get(b"host", b"").lower(),
        headers.get(b"x-forwarded-host", b"").lower() or None,
    )


def job_token(token: str, job_id: str) -> str:
    """The token that a job is given: as good as the server's own, and it says which job speaks."""
    return f"{job_id}.{hmac.new(token.encode(), f'job {job_id}'.encode(), 'sha256').hexdigest()}"


def _presented(header: bytes) -> bytes:
    """The token of a Bearer header, or the password of a Basic one, as MLflow's clients send them."""
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def problem(error: NoriaError) -> tuple[int, dict[str, str], bytes]:
    """An error as status, headers and MLflow's JSON body."""
    headers = {"content-type": "application/json"}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = 'Basic realm="mlflow"'
    if isinstance(error, Unavailable):
        headers["retry-after"] = "1"
    body = {"error_code": error.code, "message": error.message}
    if error.code in _CLASSES:
        body |= {"sqlstate": "KAM00" if error.status < 500 else "XXM00", "error_class": _CLASSES[error.code]}
    return error.status, headers, msgspec.json.encode(body)


async def _refuse(error: NoriaError, send: Send, *, by_page: bool) -> None:
    status, headers, body = problem(error)
    if by_page:  # A browser would open its own dialog for a password, and the page would wait behind it.
        headers.pop("www-authenticate", None)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def check_open(host: str) -> None:
    """Forbidden if a process that asks for no token would be reachable from other machines."""
    if not _loopback(host):
        raise Forbidden(f"--no-auth is for a machine of one's own, and {host} is reachable from others.", "Drop one of the two.")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises Unavailable for a port in use, Invalid for an address that is not ours."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it; without it every answer waits 40 ms for the reader's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise Invalid(
                f"'{host}' is not an address of this machine.", "Use --host 127.0.0.1, or 0.0.0.0 for all networks."
            ) from None
        raise Unavailable(f"Port {port} on {host} cannot be used ({os.strerror(error.errno or 0).lower()}).",
                          "Give another --port, or none to take a free one.") from None  # fmt: skip
    return listening


def url(host: str, listening: socket.socket) -> str:
    """The address that others reach this socket by."""
    shown = socket.gethostname() if host in _ANY else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"
