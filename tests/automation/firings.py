"""Rules at a real server, fired by hand or by what happens, and looked at once they are over."""

from __future__ import annotations

from typing import Any

from noria.automation import written
from noria.client.http import Server
from noria.wire import rules as wire
from tests.conftest import until

QUICK = {"times": 2, "wait": "50ms", "most": "50ms"}


def add(server: Server, name: str, when: dict[str, Any], then: list[dict[str, Any]], **more: Any) -> None:
    rule = written.written({"name": name, "when": when, "then": then, "retry": QUICK, **more}, "a test")
    server.call(wire.ADD, wire.Add([rule]))


def fire(server: Server, name: str, **subject: Any) -> str:
    """The firing's id."""
    return server.call(wire.FIRE, wire.Fire(name, subject)).firing.id


def told(server: Server, firing: str) -> wire.Told:
    return server.call(wire.FIRING, wire.One(firing))


def over(server: Server, firing: str, seconds: float = 30) -> wire.Told:
    """A firing once it is over."""

    def ended() -> wire.Told | None:
        found = told(server, firing)
        return found if found.firing.state not in wire.OPEN else None

    return until(ended, seconds)  # type: ignore[no-any-return]


def done(server: Server, then: list[dict[str, Any]], name: str = "rule", seconds: float = 30, **subject: Any) -> wire.Told:
    """What comes of some steps that are fired by hand."""
    add(server, name, {"manual": True}, then)
    return over(server, fire(server, name, **subject), seconds)


def first(server: Server, name: str, seconds: float = 60) -> wire.Told:
    """The only firing of a rule, once it is over."""
    found = until(lambda: server.call(wire.HISTORY, wire.History(name)).firings, seconds)
    assert len(found) == 1, found
    return over(server, found[0].id, seconds)
