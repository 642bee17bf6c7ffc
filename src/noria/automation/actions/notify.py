"""Tell people or programs: `webhook`, `slack` (and what takes Slack's messages), or `email`.

    {notify = "slack", url_env = "SLACK_WEBHOOK", text = "digits {steps.1.version} is in Production"}
    {notify = "email", to = "ml@example.org", server = "smtp.example.org", subject = "{rule} failed"}
    {notify = "webhook", url = "https://ci.example.org/noria", secret_env = "CI_SECRET"}

text, title: what is said, with fields of the event and of the steps before; left out, it says what happened and what came of it. Passwords, and URLs that are
secrets, are named by a variable or a file where the engine runs, and never shown.

It arrives at least once, with the same key each time. Where nobody answers, or with a 5xx, a 408 or a 429, it is tried again as the rule
says, or when the receiver says; any other 4xx fails the step.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import Struct

from noria.automation import settings as reading
from noria.automation.actions import Act, Acted
from noria.automation.notices import NOTICES, Message, Notice
from noria.automation.telling import Later
from noria.errors import Invalid, Unavailable

_OWN = ("notify", "text", "title")
_TRIES = 20


def _names(notice: Notice) -> list[str]:
    return [each.encode_name for each in msgspec.structs.fields(notice.Settings)]


SETTINGS = (*_OWN[1:], *dict.fromkeys(name for notice in NOTICES.own() for name in _names(NOTICES.get(notice))))


def check(settings: dict[str, Any]) -> None:
    notice, said = _read(settings)
    notice.check(said)


def _read(settings: dict[str, Any]) -> tuple[Notice, Struct]:
    name = settings["notify"]
    if not isinstance(name, str) or name not in NOTICES.names():
        raise Invalid(f"The step 'notify' knows no '{str(name)[:60]}'.", f"Write one of: {', '.join(NOTICES.names())}.")
    for each in _OWN[1:]:
        if not isinstance(settings.get(each, ""), str | int | float):
            raise Invalid(f"The step 'notify': '{each}' is no text.", f'Write {each} = "…".')
    notice = NOTICES.get(name)
    own = {key: value for key, value in settings.items() if key not in _OWN}
    return notice, reading.struct(notice.Settings, own, f"The notice '{name}'")


def act(ask: Act) -> Acted:
    notice, said = _read(ask.settings)
    notice.check(said)
    now, tries = time.time(), ask.result.get("tries", 0)
    until = ask.result.get("until", 0.0)
    if now < until:
        return Acted("waiting", ask.result, ask.result.get("why", ""))
    try:
        note = notice.send(said, message(ask))
    except Later as error:
        if tries + 1 >= _TRIES:
            raise Unavailable(f"{error.message} That was try {tries + 1}.") from None
        why = f"{error.message} It is tried again in {error.seconds:.0f} s, as it says."
        return Acted("waiting", {"tries": tries + 1, "until": now + error.seconds, "why": why}, why)
    return Acted("done", {"told": ask.settings["notify"]}, note)


def message(ask: Act) -> Message:
    """What is said, by the settings, or else of the event and what came of it."""
    named = str(ask.event.subject.get("name", ""))
    what = f"{ask.event.kind.replace('_', ' ')} {named}".strip()
    title = str(ask.settings.get("title", "")) or f"{ask.rule or 'noria'}: {what}{' failed' if ask.failed else ''}"
    text = str(ask.settings.get("text", "")) or "\n".join([title, *([ask.failed] if ask.failed else _shown(ask))])
    data = {
        "rule": ask.rule,
        "firing": ask.firing,
        "key": ask.key,
        "event": ask.event,
        "steps": list(ask.before),
        "failed": ask.failed,
    }
    return Message(ask.key, title, text, msgspec.to_builtins(data))


def _shown(ask: Act) -> list[str]:
    """A line for each step before, of what is plain in its result."""
    plain = [{key: value for key, value in result.items() if isinstance(value, str | int | float)} for result in ask.before]
    return [
        f"{number}. {', '.join(f'{key} {value}' for key, value in each.items())}" for number, each in enumerate(plain, 1) if each
    ]
