"""Who may speak. Deny by default: what is not listed as open needs the token, whatever route is added later."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from noria import __version__
from noria.errors import Forbidden, Unauthenticated
from noria.server.problem import respond
from noria.wire.endpoint import PROTOCOL, PROTOCOL_HEADER

_OPEN = {"/", "/health", "/version", "/favicon.ico", "/index.html"}
_LOCAL_NAMES = {"127.0.0.1", "localhost", "[::1]"}
_STAMP = (PROTOCOL_HEADER.encode(), f"{__version__};{PROTOCOL}".encode())


class Gate:
    """Every request passes here first; every answer is stamped with version and protocol here."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """token: "" asks for none, and then only pages of this machine may speak."""
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _STAMP]
            await send(message)

        headers = dict(scope["headers"])
        problem = self._problem(scope, headers)
        if problem is not None:
            await respond(problem)(scope, receive, stamped)
            return
        await self.app(scope, receive, stamped)

    def _problem(self, scope: Scope, headers: dict[bytes, bytes]) -> Forbidden | Unauthenticated | None:
        path = scope["path"]
        if not self.token:
            return self._foreign(headers)
        if path in _OPEN or path.startswith("/assets/"):
            return None
        if hmac.compare_digest(_presented(headers.get(b"authorization", b"")), self.token):
            return None
        return Unauthenticated(
            "This server asks for a token, and none or a wrong one came with the request.",
            "`noria env` prints the exports that clients need; it stands in the file `token` in the server's home.",
        )

    @staticmethod
    def _foreign(headers: dict[bytes, bytes]) -> Forbidden | None:
        """Without a token, a page of another site must not reach us, neither by its own name (DNS rebinding) nor across origins."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name not in _LOCAL_NAMES or (origin and origin.partition("://")[2] != host):
            return Forbidden("Cross-origin request blocked: this server runs without a token, for this machine alone.",
                             "Start it without --no-auth.")  # fmt: skip
        return None


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
