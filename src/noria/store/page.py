"""Page tokens: opaque to clients; to us an offset, or the place of the last row in its order."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

import msgspec

from noria.errors import Invalid

Mark = tuple[int, str | int | float | None]
"""A value in an order, behind its rank: values come first, then what has none."""

_BAD = Invalid(
    "Invalid page token, could not base64-decode it, or it is not of this server.",
    "Use the next_page_token of the page before, unchanged.",
)
_places = msgspec.msgpack.Decoder(tuple[str, list[Mark]])


def offset(token: str) -> int:
    """Where a page starts; Invalid for a token that this server did not make."""
    if not token:
        return 0
    try:
        value = json.loads(base64.b64decode(token, validate=True))["offset"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        value = None
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise _BAD
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


def mark(question: str, place: Sequence[Mark]) -> str:
    """The token of a page that begins behind `place`; `question` says what was asked."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((question, place))).decode()


def place(token: str, question: str, numbers: Sequence[bool]) -> list[Mark] | None:
    """Where a page begins; `numbers` says which marks are numbers, the others being texts. Invalid for another question's token."""
    if not token:
        return None
    try:
        asked, marks = _places.decode(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise _BAD from None
    if asked != question:
        raise Invalid(
            "This page token belongs to another search.", "Ask for the next page with the same filter, order and experiments."
        )
    if len(marks) != len(numbers) or not all(_is_mark(*each, number) for each, number in zip(marks, numbers, strict=True)):
        raise _BAD
    return marks


def _is_mark(rank: int, value: str | int | float | None, is_number: bool) -> bool:
    if value is None:
        return rank in (1, 2)
    if isinstance(value, str):
        return rank == 0 and not is_number and "\0" not in value
    return rank == 0 and is_number and value == value and (isinstance(value, float) or -(2**63) <= value < 2**63)
