"""From schedules to events, and from events to firings: each once, in the order in which things happened.

Each of these is a transaction of the one writer, or of PostgreSQL's one at a time, so several servers are as one. The clock is an
argument; one that is set back delays nothing for longer than a lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Row, delete, or_, select, update

from noria.store import database, events, firings, rows
from noria.store.firings import Progress
from noria.store.schema import event, firing, mark, rule, rule_want
from noria.store.steps import LEASE_MS
from noria.wire import rules as wire

_IDLE_MS = 60_000
_BACK_MS = 5_000
"""A clock that says so much less than it did was set back."""
_AT_ONCE = 1000
KEEP_MS = 180 * 86_400_000
"""What is over is kept so long."""
_CLOCK, _PRUNED = "rules: clock", "rules: pruned"
_rule = lru_cache(1024)(msgspec.json.Decoder(wire.Rule).decode)
Judge = Callable[[wire.Rule, wire.Event], str | None]
"""None: the rule does not wait for this event. Otherwise the text by which it is the same as others, "" for none."""


class Time(NamedTuple):
    """One time of a schedule to tell of. skip: it is written down, and not fired."""

    time: int
    subject: dict[str, Any]
    skip: bool = False


Plan = Callable[[wire.Rule, int, int], tuple[list[Time], int | None]]
"""Of a rule, its next time and now: the times to tell of, and its next time then."""


_PENDING = """
SELECT (SELECT 1 FROM event WHERE fresh = 1 LIMIT 1), (SELECT value FROM mark WHERE name = ?), (SELECT MIN(next) FROM rule),
    (SELECT MIN(due) FROM rule)
"""


def pending(conn: Connection, time: int) -> int:
    """Milliseconds until there is something to do; 0 if there is now. What idle engines ask."""
    fresh, last, following, due = database.run(conn, _PENDING, (_CLOCK,)).fetchone()
    if fresh or (last is not None and time < last - _BACK_MS):
        return 0
    return max(0, min((each - time for each in (following, due) if each is not None), default=_IDLE_MS))


def _mind_clock(conn: Connection, time: int) -> None:
    """After a clock was set back, what was to be done a little later is not to wait for it to come there again."""
    last = conn.execute(select(mark.c.value).where(mark.c.name == _CLOCK)).scalar() or 0
    if time < last - _BACK_MS:
        late = (firing.c.state == "running", firing.c.due > time + LEASE_MS)
        conn.execute(update(firing).where(*late).values(due=time + LEASE_MS))
        conn.execute(update(rule).where(rule.c.due > time).values(due=time))
    if abs(time - last) > _BACK_MS // 5:
        rows.upsert(conn, mark, [{"name": _CLOCK, "value": time}])


def tick(conn: Connection, time: int, plan: Plan) -> None:
    """Tell of the times of schedules that have come by now. Each is told of once: the next time is moved on with it, and its event has a
    key of its own."""
    _mind_clock(conn, time)
    for each in conn.execute(select(rule).where(rule.c.next <= time, rule.c.state == "active").order_by(rule.c.next)).all():
        told, following = plan(_rule(each.body), each.next, time)
        for at in told:
            key = f"schedule/{each.id}/{at.time}{'/skipped' if at.skip else ''}"
            events.add(conn, "schedule", each.name, key, at.subject, time=at.time, rule=each.id)
        conn.execute(update(rule).where(rule.c.id == each.id).values(next=following))
    _prune(conn, time)


def _prune(conn: Connection, time: int) -> None:
    last = conn.execute(select(mark.c.value).where(mark.c.name == _PRUNED)).scalar() or 0
    if 0 <= time - last < 86_400_000:
        return
    rows.upsert(conn, mark, [{"name": _PRUNED, "value": time}])
    busy = select(firing.c.event).where(firing.c.state.in_(wire.OPEN))
    old = (event.c.time < time - KEEP_MS, event.c.fresh.is_(None), event.c.id.not_in(busy))
    conn.execute(delete(event).where(*old))


def settle(conn: Connection, time: int, judge: Judge) -> bool:
    """Make firings of events that came, in their order; whether there are more events."""
    found = conn.execute(select(event).where(event.c.fresh == 1).order_by(event.c.id).limit(_AT_ONCE)).all()
    if not found:
        return False
    listening = _Listening(conn)
    fresh: list[dict[str, Any]] = []
    same: set[tuple[int, str]] = set()
    for row in found:
        happened = events.read(row)
        for each in listening.to(row):
            said = judge(_rule(each.body), happened)
            if said is not None:
                fresh.append(_firing(conn, each, row, happened, said, time, same))
    rows.keep(conn, firing, fresh)
    conn.execute(update(event).where(event.c.id.in_([row.id for row in found])).values(fresh=None))
    for key in {each["rule"] for each in fresh if each["state"] == "waiting"}:
        conn.execute(update(rule).where(rule.c.id == key, or_(rule.c.due.is_(None), rule.c.due > time)).values(due=time))
    return len(found) == _AT_ONCE


class _Listening:
    """Which active rules an event may concern; rules are asked for once."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._by_want: dict[tuple[str, str], list[Row[Any]]] = {}
        self._by_id: dict[int, Row[Any] | None] = {}

    def to(self, row: Row[Any]) -> Iterable[Row[Any]]:
        if row.rule is not None:
            if row.rule not in self._by_id:
                self._by_id[row.rule] = self._conn.execute(select(rule).where(rule.c.id == row.rule)).first()
            own = self._by_id[row.rule]
            return [own] if own is not None and (own.state == "active" or row.kind == "manual") else []
        asked = (row.kind, row.name)
        if asked not in self._by_want:
            wants = select(rule_want.c.rule).where(rule_want.c.kind == row.kind, rule_want.c.name.in_((row.name, "")))
            query = select(rule).where(rule.c.id.in_(wants), rule.c.state == "active").order_by(rule.c.id)
            self._by_want[asked] = list(self._conn.execute(query))
        return (each for each in self._by_want[asked] if row.id > each.since)


def _firing(
    conn: Connection, of: Row[Any], row: Row[Any], happened: wire.Event, same_as: str, time: int, same: set[tuple[int, str]]
) -> dict[str, Any]:
    state, note = "waiting", ""
    if happened.subject.get("skipped"):
        state, note = "skipped", str(happened.subject["skipped"])
    elif loop := _loop(of.name, happened.cause):
        state, note = "stopped", loop
    elif same_as and ((of.id, same_as) in same or _there(conn, of, same_as, time)):
        state, note = "skipped", f"The same as one before: '{same_as[:200]}'."
    else:
        same.add((of.id, same_as))
    progress = Progress(note=note, skipped=int(happened.subject.get("missed", 0)))
    return {
        "uuid": uuid4().hex, "rule": of.id, "event": row.id, "state": state, "created": time, "started": None,
        "ended": None if state == "waiting" else time, "due": 0, "turn": 0, "engine": "", "dedupe": same_as or None,
        "body": msgspec.json.encode(progress),
    }  # fmt: skip


def _loop(name: str, cause: Sequence[str]) -> str:
    """Why what follows from all this is not to be fired; "" if it may."""
    names = [each.rpartition("/")[0] for each in cause]
    way = " → ".join([*names, name])
    if name in names:
        return f"A cycle: this event follows from a firing of the same rule ({way}), so it is not fired again."
    if len(names) >= wire.DEEPEST:
        return f"{len(names)} firings led to this event, one to the next ({way}), and no more than {wire.DEEPEST} may."
    return ""


def _there(conn: Connection, of: Row[Any], text: str, time: int) -> bool:
    since = time - wire.span(_rule(of.body).dedupe_within)
    query = select(firing.c.id).where(firing.c.rule == of.id, firing.c.dedupe == text, firing.c.created > since)
    return conn.execute(query.where(firing.c.state != "skipped").limit(1)).first() is not None


def fired(conn: Connection, key: str, rule_id: int) -> wire.Fired:
    """The firing that an event has become."""
    query = select(firing.c.id).join(event, event.c.id == firing.c.event)
    found = conn.execute(query.where(event.c.key == key, firing.c.rule == rule_id)).scalar_one()
    return wire.Fired(firings.load(conn, [found])[0][1])
