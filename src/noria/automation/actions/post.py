"""Post an event that other rules may wait for: `{post = "digits drifts", subject = {score = "{event.value}"}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.automation.actions import Act, Acted, Causes
from noria.errors import Invalid
from noria.wire import rules as wire

SETTINGS = ("subject",)


def check(settings: Mapping[str, Any]) -> None:
    if not isinstance(settings["post"], str) or not settings["post"]:
        raise Invalid("An event needs a name.", 'Write {post = "NAME"}.')
    if not isinstance(settings.get("subject", {}), Mapping):
        raise Invalid("The subject of an event is a table.", 'Write subject = {score = "{event.value}"}.')


def causes(settings: Mapping[str, Any]) -> list[Causes]:
    return [Causes("drift", {"name": settings["post"]})]


def act(ask: Act) -> Acted:
    name = str(ask.settings["post"])
    subject = dict(ask.settings.get("subject", {}))
    (key,) = ask.client.call(wire.POST, wire.Post([wire.Posted(name, id=ask.key, subject=subject, cause=ask.cause)])).ids
    return Acted(result={"event": key}, note=f"Posted '{name}'.")
