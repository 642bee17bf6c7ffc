"""The registry's log: who did what to which version, and why. A line is written in the transaction of what it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from noria.errors import Invalid, NotFound
from noria.store import database, events, page
from noria.store.experiments import now
from noria.store.schema import registered_model, registry_change
from noria.types import Change
from noria.wire import registry as wire

_own = registry_change
_SHOWN = 1000
"""Characters of a text that its change shows."""
_ACTION, _USER, _REASON, _EVIDENCE = 64, 256, 8000, 1 << 20
_MOST = 1000
COLUMNS = 'time, action, name, version, "user", before, after, reason, evidence'
"""What `statement` gives the values of."""
_INSERT = f"INSERT INTO registry_change ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"  # noqa: S608 (our own names)


def add(
    conn: Connection,
    action: str,
    name: str,
    version: str = "",
    *,
    user: str = "",
    before: str = "",
    after: str = "",
    reason: str = "",
    evidence: Mapping[str, Any] = {},
) -> Change:
    """Write a line. Raises Invalid for more evidence than 1 MiB, and for texts that are none of a log."""
    text, values = statement(
        action, name, version, user=user, before=before, after=after, reason=reason, evidence=evidence
    )  # fmt: skip
    line = written(database.run(conn, text, values), values, evidence)
    events.of_change(conn, line)
    return line


def statement(
    action: str,
    name: str,
    version: str = "",
    *,
    user: str = "",
    before: str = "",
    after: str = "",
    reason: str = "",
    evidence: Mapping[str, Any] = {},
) -> tuple[str, tuple[Any, ...]]:
    """What writes a line, for whoever has more to ask of the database at the same time."""
    body = msgspec.json.encode(evidence)
    _fits("action", action, _ACTION)
    _fits("reason", reason, _REASON)
    if len(body) > _EVIDENCE:
        raise Invalid(
            f"The evidence has {len(body)} bytes, and the log takes {_EVIDENCE}.", "Keep it as an artifact, and name that."
        )
    return _INSERT, (now(), action, name, version, user[:_USER], _shown(before), _shown(after), reason, body)


def written(answer: Any, values: tuple[Any, ...], evidence: Mapping[str, Any]) -> Change:
    """The line that `statement` has written, of the cursor that it was run with."""
    return line(answer.fetchone()[0], values, evidence)


def line(key: int, values: tuple[Any, ...], evidence: Mapping[str, Any]) -> Change:
    time, action, name, version, user, before, after, reason, _ = values
    return Change(key, time, action, name, version, user, before, after, reason, dict(evidence))


def _fits(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise Invalid(f"The {what} has {len(text)} characters, and the log takes {most}.", "Say it in fewer.")


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def renamed(conn: Connection, old: str, new: str) -> None:
    """What is known of a model goes with it."""
    conn.execute(update(_own).where(_own.c.name == old).values(name=new))


def history(conn: Connection, request: wire.History) -> wire.Changes:
    """Lines of a model that there is or was, the newest first; NotFound if there never was one."""
    limit, start = page.size(request.max_results, _MOST), page.offset(request.page_token)
    query = select(_own).where(_own.c.name == request.name)
    for column, value in ((_own.c.version, request.version), (_own.c.action, request.action)):
        query = query.where(column == value) if value else query
    query = query.where(_own.c.id < start) if start else query
    found = conn.execute(query.order_by(_own.c.id.desc()).limit(limit + 1)).all()
    if not found and not start:
        _check(conn, request.name)
    more = page.token(found[limit - 1].id) if len(found) > limit else ""
    return wire.Changes([change(each) for each in found[:limit]], more)


def _check(conn: Connection, name: str) -> None:
    for column in (registered_model.c.name, _own.c.name):
        if conn.execute(select(column).where(column == name).limit(1)).first():
            return
    raise NotFound(f"Registered Model with name={name[:256]} not found", "`noria models list` shows the models there are.")


def change(row: Row[Any]) -> Change:
    evidence = msgspec.json.decode(row.evidence, type=dict[str, Any])
    return Change(
        row.id, row.time, row.action, row.name, row.version, row.user, row.before, row.after, row.reason, evidence
    )  # fmt: skip
