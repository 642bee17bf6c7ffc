"""Page tokens: opaque to clients, an offset to us."""

from __future__ import annotations

import base64
import binascii
import json

from noria.errors import Invalid


def offset(token: str) -> int:
    """Where a page starts; Invalid for a token that this server did not make."""
    if not token:
        return 0
    try:
        value = json.loads(base64.b64decode(token, validate=True))["offset"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise Invalid("Invalid page token.", "Use the next_page_token of the page before, unchanged.")
    return value


def token(start: int) -> str:
    return base64.b64encode(json.dumps({"offset": start}).encode()).decode()


def size(asked: int, most: int) -> int:
    if asked < 1:
        raise Invalid(f"Invalid value {asked} for parameter 'max_results' supplied. It must be a positive integer.")
    if asked > most:
        raise Invalid(f"Invalid value {asked} for parameter 'max_results' supplied. It must be at most {most}.",
                      "Ask for further pages with next_page_token.")  # fmt: skip
    return asked
