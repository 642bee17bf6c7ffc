"""At the times of a cron expression, in a time zone: `{schedule = "30 2 * * mon-fri", zone = "Europe/Berlin"}`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from noria.automation import schedule as times
from noria.wire.rules import Event

FIELDS = ("scheduled", "at", "zone", "late", "missed")


class When(Struct, frozen=True, forbid_unknown_fields=True):
    schedule: str
    zone: str = "UTC"


def check(when: When) -> None:
    times.Schedule(when.schedule, when.zone)


def listens(when: When) -> tuple[str, bytes] | None:
    return None  # Its events are made for it alone.


def matches(when: When, event: Event) -> bool:
    return True


def may(when: When, subject: Mapping[str, str]) -> bool:
    return False


def says(when: When) -> dict[str, str]:
    return {"zone": when.zone}
