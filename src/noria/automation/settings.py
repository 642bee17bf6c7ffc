"""What people write in a rule, as Structs: each thing that is wrong with it is said in a sentence, with the nearest name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from noria.errors import Invalid
from noria.plugins import Kind

S = TypeVar("S", bound=Struct)
P = TypeVar("P")


def struct(kind: type[S], given: Mapping[str, Any], what: str) -> S:
    """Settings as their Struct. what: whose they are, for the sentence. Raises Invalid."""
    own = kind.__annotations__  # Before what it shares with others.
    names = [field.encode_name for field in sorted(msgspec.structs.fields(kind), key=lambda field: field.name not in own)]
    for name in given:
        if name not in names:
            raise unknown(name, names, what, "setting")
    for field in msgspec.structs.fields(kind):
        if field.required and field.encode_name not in given:
            raise Invalid(f"{what} needs '{field.encode_name}', which is missing.", f"It takes: {', '.join(names)}.")
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"{what}: {_said(error)}.", f"It takes: {', '.join(names)}.") from None


def _said(error: msgspec.ValidationError) -> str:
    text = str(error)
    what, _, where = text.partition(" - at `$.")
    return f"'{where.rstrip('`')}': {what[:1].lower()}{what[1:]}" if where else f"{text[:1].lower()}{text[1:]}"


def unknown(name: str, names: Sequence[str], what: str, kind: str) -> Invalid:
    close = get_close_matches(name, names, 1)
    cure = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(names)}."
    return Invalid(f"{what} has no {kind} '{name[:60]}'.", cure)


def one(shelf: Kind[P], given: Mapping[str, Any], what: str, kind: str, others: Sequence[str] = ()) -> tuple[str, P]:
    """The plugin that some settings name: the one of their names that is a file on the shelf. others: names that plugins' settings may have,
    which are no plugins."""
    names = shelf.own()
    found = [name for name in given if name in names] or [name for name in given if name in shelf.names()]
    if not found:
        odd = next((name for name in given if name not in others), "")
        close = get_close_matches(odd, shelf.names(), 1, 0.5)
        cure = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(shelf.names())}."
        said = f"{what} names no {kind}" + (f": there is no {kind} '{odd[:60]}'." if odd else ".")
        raise Invalid(said, cure)
    if len(found) > 1:
        raise Invalid(f"{what} names {len(found)} {kind}s: {' and '.join(found)}.", "One is one.")
    return found[0], shelf.get(found[0])
