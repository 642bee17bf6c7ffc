"""Somebody's monitor has posted an event, of drift or of whatever else: `{drift = "digits*", above = 0.2}`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from noria.automation.triggers import could, meant, plain, said
from noria.wire.rules import Event

FIELDS = ()


class When(Struct, frozen=True, forbid_unknown_fields=True):
    """above, below: bounds of the number that the event has in `field`; without them any event of the name is meant."""

    drift: str
    field: str = "score"
    above: float | None = None
    below: float | None = None


def listens(when: When) -> tuple[str, bytes] | None:
    return plain(when.drift), b""


def matches(when: When, event: Event) -> bool:
    return meant(when.drift, event.subject["name"]) and _beyond(when, event.subject.get(when.field))


def _beyond(when: When, value: object) -> bool:
    if when.above is None and when.below is None:
        return True
    if not isinstance(value, int | float):
        return False
    return (when.above is not None and value > when.above) or (when.below is not None and value < when.below)


def may(when: When, subject: Mapping[str, str]) -> bool:
    return could(when.drift, subject.get("name"))


def says(when: When) -> dict[str, str]:
    return said(name=when.drift)
