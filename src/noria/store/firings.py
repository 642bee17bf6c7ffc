"""Firings: one event and one rule each. How far they are, and what there is to read of them; `settling.py` makes them, `steps.py` does them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import msgspec
from sqlalchemy import Connection, select

from noria.errors import Invalid, NotFound
from noria.store import database, page, rows
from noria.store.schema import firing, firing_line, rule
from noria.wire import rules as wire

_MOST = 1000
_event = msgspec.json.Decoder(wire.Event).decode


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a firing is. rule: as it was when this began. outcome, why: what it ends as and for what reason, once the steps
    of `otherwise` are done."""

    rule: wire.Rule | None = None
    phase: str = "then"
    step: int = 0
    tries: int = 0
    steps: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    note: str = ""
    skipped: int = 0
    outcome: str = ""
    why: str = ""
    begun: int = 0


progress = msgspec.json.Decoder(Progress).decode


class Row(NamedTuple):
    """A firing's row, with its event's body and its rule's name."""

    id: int
    uuid: str
    rule: int
    state: str
    created: int
    started: int | None
    ended: int | None
    due: int
    turn: int
    engine: str
    body: bytes
    event: bytes
    name: str


# Straight through the driver: steps are many, and what SQLAlchemy does around a statement takes several times as long.
SELECT = """
SELECT firing.id, firing.uuid, firing.rule, firing.state, firing.created, firing.started, firing.ended, firing.due, firing.turn,
    firing.engine, firing.body, event.body, rule.name
FROM firing JOIN event ON event.id = firing.event JOIN rule ON rule.id = firing.rule
"""


def some(conn: Connection, where: str, values: Sequence[object]) -> list[Row]:
    """Firings, by what is to come after SELECT."""
    return [Row(*each) for each in database.run(conn, f"{SELECT} WHERE {where}", values).fetchall()]


def load(conn: Connection, keys: Sequence[int]) -> list[tuple[Row, wire.Firing]]:
    """Firings by their numbers, the newest first."""
    found = [Row(*each) for part in rows.chunks(keys) for each in rows.among(conn, f"{SELECT} WHERE firing.id", part)]
    return [(row, said(row, progress(row.body))) for row in sorted(found, key=lambda row: -row.id)]


def said(row: Row, at: Progress) -> wire.Firing:
    """A firing as it is told."""
    phase: Literal["then", "otherwise"] = "otherwise" if at.phase == "otherwise" else "then"
    return wire.Firing(
        row.uuid, row.name, _event(row.event), cast(wire.FiringState, row.state), row.created, row.started or 0, row.ended or 0, row.due,
        phase, at.step, at.tries, at.steps, at.why or at.note, at.result, at.skipped,
    )  # fmt: skip


def history(conn: Connection, request: wire.History) -> wire.Firings:
    """Firings of a rule or of all, the newest first."""
    limit, start = page.size(request.max_results, _MOST), page.offset(request.page_token)
    query = select(firing.c.id).order_by(firing.c.id.desc()).limit(limit + 1)
    if request.name:
        known = conn.execute(select(rule.c.id).where(rule.c.name == request.name)).scalar()
        if known is None:
            raise NotFound(f"There is no rule '{request.name[:80]}'.", "`noria rules list` shows the rules there are.")
        query = query.where(firing.c.rule == known)
    query = query.where(firing.c.state == request.state) if request.state else query
    found = conn.execute(query.where(firing.c.id < start) if start else query).scalars().all()
    more = page.token(found[limit - 1]) if len(found) > limit else ""
    return wire.Firings([each for _, each in load(conn, found[:limit])], more)


def one(conn: Connection, request: wire.One) -> wire.Told:
    """A firing and what happened at its steps."""
    begins = firing.c.uuid.startswith(request.id, autoescape=True)
    found = conn.execute(select(firing.c.id).where(begins).limit(2)).scalars().all()
    if not found:
        raise NotFound(f"There is no firing '{request.id[:64]}'.", "`noria rules history` shows the firings there are.")
    if len(found) > 1:
        raise Invalid(f"More than one firing begins with '{request.id[:64]}'.", "Write more of its id.")
    bodies = conn.execute(select(firing_line.c.body).where(firing_line.c.firing == found[0]).order_by(firing_line.c.id)).scalars()
    ((_, each),) = load(conn, found)
    return wire.Told(each, [msgspec.json.decode(body, type=wire.Line) for body in bodies])
