"""One POST to somebody who is to be told something, and what its answer means: it has arrived, try again, or do not."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from email.message import Message as Headers
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from noria.errors import Invalid, Unavailable
from noria.version import __version__

SECONDS = 20.0
_AGAIN = frozenset({408, 425, 429})
_SHOWN = 300
_LATEST = 6 * 3600
"""Seconds: nobody is believed who says to come back after more."""


class Later(Unavailable):
    """They say when to try again: after so many seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: what is told, and its signature, are for whom the rule names."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_Stay)
"""The proxies of the environment count (HTTPS_PROXY, NO_PROXY), as on login nodes they must."""


def address(url: str, whose: str) -> str:
    """The URL itself. Raises Invalid for what is none, and for one with a password in it."""
    try:
        parts = urlsplit(url)
        known, _ = parts.hostname, parts.port
    except ValueError:
        known, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not known or any(each <= " " or each == "\x7f" for each in url):
        raise Invalid(f"{whose}: its url is no address that can be told anything.", "Write https://HOST/PATH.")
    if parts.username or parts.password:
        raise Invalid(
            f"{whose}: its url has a name and a password in it.", "Give the whole url by url_env or url_file, or a secret."
        )
    return url


def place(url: str) -> str:
    """Of a URL, what may be said: the rest may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def post(url: str, body: bytes, headers: dict[str, str]) -> str:
    """The answer's text. Raises Unavailable if trying again may help, Later if they say when, Invalid if it will not."""
    request = urllib.request.Request(url, body, {"User-Agent": f"noria/{__version__}", **headers}, method="POST")  # noqa: S310 (see address)
    where = place(url)
    try:
        with _opener.open(request, timeout=SECONDS) as answer:
            return str(answer.read(_SHOWN).decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(where, error) from None
    except TimeoutError:
        raise Unavailable(f"{where} did not answer within {SECONDS:g} s.") from None
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise Unavailable(f"{where} cannot be told ({str(why)[:200] or type(why).__name__}).") from None


def answers(url: str) -> bool:
    """Whether anybody answers there at all, be it that they ask who it is."""
    try:
        with _opener.open(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _refused(where: str, error: urllib.error.HTTPError) -> Exception:
    try:
        text = " ".join(error.read(_SHOWN).decode(errors="replace").split())
    except (OSError, http.client.HTTPException):  # The status says enough.
        text = ""
    said = f"{where} answered {error.code}" + (f": {text}" if text else "")
    if error.code >= 500 or error.code in _AGAIN:
        seconds = after(error.headers)
        return Later(f"{said}.", seconds) if seconds else Unavailable(f"{said}.")
    if 300 <= error.code < 400:
        return Invalid(f"{where} answered {error.code}, which leads elsewhere.", "Write the address that it leads to.")
    return Invalid(said, "It will not take this; correct the address, or what is sent.")


def after(headers: Headers) -> float:
    """Retry-After in seconds, be it a number or a date (RFC 9110, 10.2.3); 0 if it says nothing."""
    text = (headers.get("Retry-After") or "").strip()
    try:
        seconds = float(text) if text.replace(".", "", 1).isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), _LATEST)


def secret(name: str, value: str, variable: str, file: str, whose: str) -> str:
    """What stands in the rule itself, in a variable of whoever runs the engine, or in a file. Raises Invalid if it is not there."""
    if value:
        return value
    if variable:
        found = os.environ.get(variable, "")
        if not found:
            raise Invalid(
                f"{whose}: {name}_env names {variable}, which is not set where the engine runs.", "Set it, and start that again."
            )
        return found
    try:
        found = Path(file).expanduser().read_text().strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Invalid(
            f"{whose}: {name}_file is {file}, which cannot be read ({why}).", "Correct the path, or its permissions."
        ) from None
    if file and not found:
        raise Invalid(f"{whose}: {name}_file is {file}, which is empty.", "Write it there, in one line.")
    return found


def at_most_one(whose: str, **given: str) -> None:
    """Raises Invalid if something is said in two ways."""
    said = [name for name, value in given.items() if value]
    if len(said) > 1:
        raise Invalid(f"{whose} has {' and '.join(said)}.", "One of them is enough.")
