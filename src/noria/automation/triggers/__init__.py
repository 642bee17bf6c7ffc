"""A shelf: one file is one trigger, and its name is both what a rule's `when` says and the kind of the events that it waits for.

A trigger is pure: it looks at what a rule says and at an event, and says yes or no. The server asks it in the transaction in which firings
are made, and the dry run asks it about the past, so it must always say the same of the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from noria.plugins import Kind
from noria.wire.rules import Event


class Trigger(Protocol):
    """When: the settings, one of which has the trigger's name. FIELDS: what the subject of such an event has; () is anything.

    listens: the name of what the event must be about, "" for any, and what the store must know besides (see store/rules.Want); None for a trigger
    whose events are made for its rule alone. matches: whether
    an event of this kind is meant. may: whether one could be of which only so much is known; what is missing or "" may be anything.
    says: what the settings tell of the subject of each event that matches. A trigger may also have `check(when)`, which raises Invalid.
    """

    When: ClassVar[type[Struct]]
    FIELDS: Sequence[str]

    def listens(self, when: Any) -> tuple[str, bytes] | None: ...
    def matches(self, when: Any, event: Event) -> bool: ...
    def may(self, when: Any, subject: Mapping[str, str]) -> bool: ...
    def says(self, when: Any) -> dict[str, str]: ...


TRIGGERS: Kind[Trigger] = Kind("noria.automation.triggers")
_GLOB = "*?["


def meant(pattern: str, value: object) -> bool:
    """Whether a name is that of a pattern, in which `*` stands for any part; "" is any."""
    return not pattern or fnmatchcase(str(value), pattern)


def could(pattern: str, value: str | None) -> bool:
    """The same of a name that may not be known yet, or only as a pattern: two of them may mean the same if they begin alike."""
    if not value or meant(pattern, value):
        return True
    ours, theirs = _beginning(pattern), _beginning(value)
    return theirs != value and (ours.startswith(theirs) or theirs.startswith(ours))


def _beginning(pattern: str) -> str:
    """What stands before the first `*` or its like."""
    return pattern[: min((pattern.index(each) for each in _GLOB if each in pattern), default=len(pattern))]


def plain(pattern: str) -> str:
    """A name, if a pattern is one; else "", which is any."""
    return "" if any(each in pattern for each in _GLOB) else pattern


def said(**given: str) -> dict[str, str]:
    """Of these, what is said."""
    return {name: value for name, value in given.items() if value}
