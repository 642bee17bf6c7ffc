"""Only when somebody says so, with `noria rules fire NAME`: `{manual = true}`. Any other rule can be fired so as well."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from noria.wire.rules import Event

FIELDS = ()


class When(Struct, frozen=True, forbid_unknown_fields=True):
    manual: bool


def listens(when: When) -> tuple[str, bytes] | None:
    return None


def matches(when: When, event: Event) -> bool:
    return True


def may(when: When, subject: Mapping[str, str]) -> bool:
    return False


def says(when: When) -> dict[str, str]:
    return {}
