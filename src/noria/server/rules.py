"""Rules at work, as the server does it: the store's transactions, with what `automation` knows of schedules and triggers."""

from __future__ import annotations

from uuid import uuid4

import msgspec

from noria.automation import rehearse
from noria.automation import rules as meaning
from noria.automation.triggers.metric import When as Threshold
from noria.store import events, past, rules, settling, steps
from noria.store.store import Connection
from noria.wire import rules as wire


def settle(conn: Connection, time: int) -> bool:
    """Have all that happened by now become firings; whether there is more than one transaction takes."""
    settling.tick(conn, time, meaning.plan)
    return settling.settle(conn, time, meaning.judge)


def claim(conn: Connection, request: wire.Claim, time: int) -> wire.Claimed:
    """What an engine is to do now."""
    more = settle(conn, time)
    work = steps.claim(conn, request, time)
    return wire.Claimed(work, 0 if more else settling.pending(conn, time))


def report(conn: Connection, request: wire.Report, time: int) -> wire.Claimed:
    return wire.Claimed(steps.report(conn, request, time), 0)


def add(conn: Connection, request: wire.Add, user: str, time: int) -> wire.Listed:
    settle(conn, time)
    named = {each.name for each in request.rules}
    beside = [*(each for each in rules.every(conn) if each.name not in named), *request.rules]
    checked = [meaning.check(each, beside, time) for each in request.rules]
    return listed(wire.Listed([rules.add(conn, fresh, user, replace=request.replace).rule for fresh in checked]))


def pause(conn: Connection, request: wire.Pause, time: int) -> wire.Got:
    settle(conn, time)
    found = rules.get(conn, wire.Key(request.name)).rule
    return shown(rules.pause(conn, request, meaning.first(found.rule, time)))


def fire(conn: Connection, request: wire.Fire, user: str, time: int) -> wire.Fired:
    """An event for one rule, and its firing."""
    row = rules.row(conn, request.name)
    while settle(conn, time):  # It comes after all that happened before.
        pass
    key = f"manual/{uuid4().hex}"
    said = {**meaning.at_hand(rules.get(conn, wire.Key(row.name)).rule.rule, time), **request.subject, "user": user}
    events.add(conn, "manual", row.name, key, said, time=time, rule=row.id, cause=events.chain(conn, []))
    settle(conn, time)
    return settling.fired(conn, key, row.id)


def shown(got: wire.Got) -> wire.Got:
    return wire.Got(_ahead(got.rule))


def listed(got: wire.Listed) -> wire.Listed:
    return wire.Listed([_ahead(each) for each in got.rules])


def _ahead(kept: wire.Kept) -> wire.Kept:
    """With the next times of its schedule, of which the store knows the first."""
    if not kept.upcoming:
        return kept
    return msgspec.structs.replace(kept, upcoming=meaning.upcoming(kept.rule, kept.upcoming[0]))


def test(conn: Connection, request: wire.Test, time: int) -> wire.Tested:
    """A rule on the recorded past. Raises Invalid for one that could not be added."""
    rule, until = request.rule, request.until or time
    meaning.check(rule, rules.every(conn), time)
    kind, _, when = meaning.trigger_of(rule)
    if kind == "schedule":
        found, cut = rehearse.scheduled(rule, request.since, until)
    else:
        found, cut = past.happened(conn, kind, request.since, until, when if isinstance(when, Threshold) else None)
    return wire.Tested(rehearse.rehearse(rule, found), len(found), cut)
