"""A shelf: one file is one way to tell people, and its name is what a step says: `{notify = "slack"}` is `slack.py`.

What follows is the contract of `send`: it is called again with the same key if nobody knows whether the message arrived, and gives the
receiver that key, so that it can tell what comes twice. It raises Unavailable if trying again may help, telling.Later if the receiver says when, Invalid if
it will not. No secret is in what it raises or returns.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from noria.plugins import Kind


class Message(Struct, frozen=True):
    """What is told. key: the same each time that this is sent. title: one line. text: some lines. data: all of it, for programs."""

    key: str
    title: str
    text: str
    data: dict[str, Any]


class Notice(Protocol):
    """Settings: a Struct of what a step of it may have."""

    Settings: type[Struct]

    def check(self, settings: Any) -> None:
        """Raise Invalid for settings that can never work. Their texts may hold fields that are not filled in yet."""

    def send(self, settings: Any, message: Message) -> str:
        """Tell it; a sentence for the history."""


NOTICES: Kind[Notice] = Kind("noria.automation.notices")
