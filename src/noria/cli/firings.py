"""Rules and firings as a terminal shows them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
import msgspec

from noria.cli import show
from noria.errors import Invalid
from noria.wire import rules as wire

if TYPE_CHECKING:
    from noria.client.http import Server

_SHOWN = 200
_COLOURS = {"done": "green", "failed": "red", "stopped": "yellow", "running": "cyan"}


def moment(time: int, rule: wire.Rule) -> str:
    """A time of a schedule, in its zone."""
    zone = str(rule.when.get("zone", "UTC"))
    return f"{datetime.fromtimestamp(time / 1000, ZoneInfo(zone)):%a %Y-%m-%d %H:%M} {zone}"


def local(time: int) -> str:
    return f"{datetime.fromtimestamp(time / 1000):%Y-%m-%d %H:%M:%S}" if time else "-"


def when(text: str) -> int:
    """`30d` ago, or a time, in milliseconds since 1970."""
    if re.match(r"\d{4}-", text):
        try:
            return int(datetime.fromisoformat(text).timestamp() * 1000)
        except ValueError:
            raise Invalid(f"'{text}' is no time.", "Write 30d, 12h or 2026-11-01T08:00.") from None
    return int(time.time() * 1000) - wire.span(text)


def pairs(given: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE`; numbers as numbers."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise Invalid(f"--set {each}: this is no NAME=VALUE.", "Write it as in -P name=digits.")
        try:
            found[name] = msgspec.json.decode(value, type=int | float)
        except msgspec.DecodeError:
            found[name] = value
    return found


def table(found: Sequence[wire.Firing]) -> None:
    show.table(
        ("FIRING", "RULE", "STATE", "EVENT", "AT", "STEP", "TOOK", "NOTE"),
        [
            (
                each.id[:8],
                each.rule,
                each.state,
                about(each.event),
                local(each.event.time),
                _step(each),
                _took(each),
                _cut(each.note),
            )
            for each in found
        ],
        "No firings: nothing has happened that a rule waits for. `noria rules fire NAME` has one fire.",
    )


def about(event: wire.Event) -> str:
    """An event in a few words."""
    subject = event.subject
    if event.kind == "schedule":
        more = f", {subject['missed']} missed before it" if subject.get("missed") else ", late" if subject.get("late") else ""
        return f"schedule {subject.get('at', '')}{more}"
    if event.kind == "metric":
        return f"{subject['metric']} {show.figure(subject.get('value'))} at step {subject.get('step')}"
    parts = [str(subject[name]) for name in ("name", "version", "stage", "state", "digest") if subject.get(name) not in (None, "", "None")]  # fmt: skip
    return " ".join([event.kind, *parts])[:80]


def _step(each: wire.Firing) -> str:
    return f"{'otherwise ' if each.phase == 'otherwise' else ''}{each.step + 1}" + (
        f", try {each.tries + 1}" if each.tries else ""
    )


def _took(each: wire.Firing) -> str:
    end = each.ended or int(time.time() * 1000)
    return show.span(end - each.started) if each.started else "-"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def tell(told: wire.Told) -> None:
    """A firing, its event, and a line for all that happened at its steps."""
    each = told.firing
    state = click.style(each.state, fg=_COLOURS.get(each.state), bold=True)
    click.echo(f"{each.rule}  {each.id}  {state}" + (f": {each.note}" if each.note else ""))
    click.echo(f"event   {each.event.id}, {local(each.event.time)}")
    for name, value in each.event.subject.items():
        click.echo(f"        {name} = {value}")
    for cause in each.event.cause:
        click.echo(f"        follows from {cause}")
    click.echo(f"times   came {local(each.created)}, began {local(each.started)}, ended {local(each.ended)}")
    if told.lines:
        click.echo()
    show.table(
        ("TIME", "STEP", "TRY", "CAME OF IT", "TOOK", "NOTE"),
        [
            (
                local(line.time), f"{'otherwise ' if line.phase == 'otherwise' else ''}{line.step + 1}", str(line.tries + 1),
                "to be tried again" if line.state == "again" else line.state, f"{line.seconds:.1f}s", _cut(line.note),
            )
            for line in told.lines
        ],
        "Nothing has been done yet.",
    )  # fmt: skip


def toml(rule: wire.Rule) -> str:
    """A rule as its file would have it."""
    given = msgspec.to_builtins(rule)
    return "\n".join(f"{name} = {_value(value)}" for name, value in given.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return msgspec.json.encode(value).decode()


def would(rule: wire.Rule, tested: wire.Tested, since: str) -> None:
    """What a rule would have done."""
    fires = [each for each in tested.would if each.starts]
    skipped = len(tested.would) - len(fires)
    kind = "times" if "schedule" in rule.when else "events"
    more = f", {skipped} skipped" if skipped else ""
    click.echo(
        f"noria: rule '{rule.name}' would have fired {len(fires)} times{more}, of {tested.looked} {kind} since {since}", err=True
    )
    if tested.cut:
        click.echo(f"noria: there are more {kind} than the {tested.looked} that were looked at; ask for less time", err=True)
    show.table(
        ("WHEN", "EVENT", "STEPS", "NOTE"),
        [(local(each.starts or each.event.time), about(each.event), _value(each.steps) if each.steps else "-", each.note) for each in tested.would],
        f"Nothing since {since} would have had it fire.",
    )  # fmt: skip


def follow(server: Server, firing: wire.Firing) -> wire.Firing:
    """Wait for the end of a firing, saying what happens meanwhile."""
    seen, wait = 0, 0.02
    while True:
        told = server.call(wire.FIRING, wire.One(firing.id))
        for line in told.lines[seen:]:
            click.echo(
                f"noria: {'step' if line.phase == 'then' else 'otherwise'} {line.step + 1} {line.state}"
                + (f": {line.note}" if line.note else ""),
                err=True,
            )
        seen = len(told.lines)
        if told.firing.state not in wire.OPEN:
            return told.firing
        time.sleep(wait)
        wait = min(1.0, wait * 1.5)
