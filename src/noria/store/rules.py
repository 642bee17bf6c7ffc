"""Rules as rows: what people wrote, what each listens to, and how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from noria.errors import AlreadyExists, NotFound
from noria.store import firings, rows, steps
from noria.store.experiments import now
from noria.store.schema import event, firing, metric_watch, rule, rule_want
from noria.wire import rules as wire

_rule = msgspec.json.Decoder(wire.Rule).decode


class Want(NamedTuple):
    """What a rule listens to: a kind of event and a name, "" for any. body: of a metric, its threshold."""

    kind: str
    name: str
    body: bytes = b""


class Fresh(NamedTuple):
    """A rule that was read and found good. next: the first time of its schedule, None without one."""

    rule: wire.Rule
    wants: Sequence[Want]
    next: int | None


def row(conn: Connection, name: str) -> Row[Any]:
    found = conn.execute(select(rule).where(rule.c.name == name)).first()
    if found is None:
        raise NotFound(f"There is no rule '{name[:80]}'.", "`noria rules list` shows the rules there are.")
    return found


def add(conn: Connection, fresh: Fresh, user: str, *, replace: bool) -> wire.Got:
    """Keep a rule. What happened before is none of its business, and what it has begun goes on with the steps that it had then."""
    name, time = fresh.rule.name, now()
    known = conn.execute(select(rule).where(rule.c.name == name)).first()
    if known is not None and not replace:
        raise AlreadyExists(f"There is a rule '{name[:80]}' already.", "Add it with --replace, or give it another name.")
    since = conn.execute(select(func.max(event.c.id))).scalar() or 0
    values = {
        "body": msgspec.json.encode(fresh.rule), "user": user, "changed": time, "since": since, "next": fresh.next,
    }  # fmt: skip
    if known is None:
        key = rows.add(conn, rule, {**values, "name": name, "state": "active", "created": time, "due": None})
    else:
        key = known.id
        conn.execute(update(rule).where(rule.c.id == key).values(values))
        conn.execute(delete(rule_want).where(rule_want.c.rule == key))
        conn.execute(delete(metric_watch).where(metric_watch.c.rule == key))
        steps.look_again(conn, key, time)
    wants = [{"kind": each.kind, "name": each.name, "rule": key, "body": each.body} for each in fresh.wants]
    if wants:
        conn.execute(insert(rule_want), wants)
    return get(conn, wire.Key(name))


def get(conn: Connection, request: wire.Key) -> wire.Got:
    return wire.Got(_kept(conn, [row(conn, request.name)])[0])


def list_(conn: Connection, _: wire.List) -> wire.Listed:
    return wire.Listed(_kept(conn, conn.execute(select(rule).order_by(rule.c.name)).all()))


def every(conn: Connection) -> list[wire.Rule]:
    """All rules, as they were written."""
    return [_rule(body) for body in conn.execute(select(rule.c.body).order_by(rule.c.name)).scalars()]


def _kept(conn: Connection, found: Sequence[Row[Any]]) -> list[wire.Kept]:
    ids = [each.id for each in found]
    counts: dict[int, dict[str, int]] = {}
    counted = select(firing.c.rule, firing.c.state, func.count()).where(firing.c.rule.in_(ids))
    for key, state, count in conn.execute(counted.group_by(firing.c.rule, firing.c.state)):
        counts.setdefault(key, {})[state] = count
    newest = select(func.max(firing.c.id)).where(firing.c.rule.in_(ids), firing.c.started.is_not(None)).group_by(firing.c.rule)
    last = {each.rule: said for each, said in firings.load(conn, conn.execute(newest).scalars().all())}
    return [
        wire.Kept(
            _rule(each.body), each.state, each.user, each.created, each.changed, [each.next] if each.next else [],
            counts.get(each.id, {}), last.get(each.id),
        )
        for each in found
    ]  # fmt: skip


def remove(conn: Connection, request: wire.Key) -> None:
    """A rule and its history."""
    conn.execute(delete(rule).where(rule.c.id == row(conn, request.name).id))


def pause(conn: Connection, request: wire.Pause, next_: int | None) -> wire.Got:
    """Have a rule hear nothing, or hear again; what happens meanwhile is none of its business. next_: the first time of its schedule from
    now on."""
    key = row(conn, request.name).id
    values = {"state": "paused" if request.paused else "active", "next": None if request.paused else next_}
    conn.execute(update(rule).where(rule.c.id == key).values(values))
    steps.look_again(conn, key, now())
    return get(conn, wire.Key(request.name))
