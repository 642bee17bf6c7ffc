"""The web page's files, as they were built: compressed beside each, cached by their hashed names."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from noria.errors import NotFound
from noria.wire import limits

STATIC = Path(__file__).parent / "static"
PATHS = ("/", "/index.html", "/icon.svg", "/favicon.ico", "/assets/{path:path}")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_UNBUILT = "<!doctype html><title>Noria</title><p>The page was not built into this installation. Run <code>make web</code>; the API works without it."


async def page(request: Request) -> Response:
    name = limits.artifact_path(request.url.path.lstrip("/") or "index.html")
    file = STATIC / name
    if not file.is_file():
        if name == "index.html":
            return HTMLResponse(_UNBUILT)
        raise NotFound(f"There is no page '{name[:100]}'.")
    hashed = name.startswith("assets/")
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding",
        "Cache-Control": "public, max-age=31536000, immutable" if hashed else "no-cache",
    }
    accepted = request.headers.get("accept-encoding", "")
    for encoding, suffix in (("br", ".br"), ("gzip", ".gz")):
        packed = file.with_name(file.name + suffix)
        if encoding in accepted and packed.is_file():
            return FileResponse(packed, headers={**headers, "Content-Encoding": encoding}, media_type=_KINDS.get(file.suffix))
    return FileResponse(file, headers=headers, media_type=_KINDS.get(file.suffix))
