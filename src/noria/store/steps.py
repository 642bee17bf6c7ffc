"""From firings to steps: handed to one engine at a time, in order, within a rule's rate; and what became of them.

Whoever has a step has it until its lease is over, and renews that meanwhile. `due` of a firing is when something is to be done about it, the
end of a lease included; `due` of a rule is the first of those, so that nothing else need be looked at.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from noria.errors import Conflict
from noria.store import firings
from noria.store.firings import Progress
from noria.store.firings import progress as read
from noria.store.schema import firing, firing_line, rule
from noria.wire import rules as wire

LEASE_MS = 30_000
"""An engine that has not been heard of for so long has lost its steps to the next that asks."""
_POLL_MS, _MOST_POLL_MS = 2_000, 60_000
_ANY = 1000
_rule = msgspec.json.Decoder(wire.Rule).decode


def claim(conn: Connection, request: wire.Claim, time: int) -> list[wire.Work]:
    """Steps that are due, for this engine: those that nobody is at any more, those that wait for something, and new firings in order."""
    work: list[wire.Work] = []
    query = select(rule).where(rule.c.due <= time).order_by(rule.c.due, rule.c.id).limit(max(1, request.room) * 4)
    for each in conn.execute(query).all() if request.room else ():
        if len(work) < request.room:
            work += _take(conn, each, request.engine, request.room - len(work), time)
            _set_due(conn, each, time)
    return work


def _take(conn: Connection, of: Row[Any], engine: str, room: int, time: int) -> list[wire.Work]:
    own = select(firing).where(firing.c.rule == of.id)
    again = conn.execute(own.where(firing.c.state == "running", firing.c.due <= time).order_by(firing.c.id).limit(room)).all()
    work = [_go_on(conn, of, each, engine, time) for each in again]
    asked = _rule(of.body)
    may = min(room - len(work), _free(conn, of, asked), _allowed(conn, of, asked, time)[0]) if of.state == "active" else 0
    waiting = own.where(firing.c.state == "waiting").order_by(firing.c.id).limit(max(0, may))
    return work + [_begin(conn, of, each, asked, engine, time) for each in conn.execute(waiting).all()]


def _free(conn: Connection, of: Row[Any], asked: wire.Rule) -> int:
    query = select(func.count()).select_from(firing).where(firing.c.rule == of.id, firing.c.state == "running")
    return asked.at_once - (conn.execute(query).scalar() or 0)


def _allowed(conn: Connection, of: Row[Any], asked: wire.Rule, time: int) -> tuple[int, int]:
    """How many firings may start now, and when the next may if none may now."""
    most, within = wire.pace(asked.rate)
    if not most:
        return _ANY, time
    lately = (firing.c.rule == of.id, firing.c.started > time - within, firing.c.started <= time)
    starts = conn.execute(select(firing.c.started).where(*lately).order_by(firing.c.started.desc()).limit(most)).scalars().all()
    return (most - len(starts), time) if len(starts) < most else (0, starts[-1] + within)


def _begin(conn: Connection, of: Row[Any], each: Row[Any], asked: wire.Rule, engine: str, time: int) -> wire.Work:
    progress = read(each.body)
    progress.rule, progress.begun = asked, time
    return _lease(conn, of, each, progress, engine, time, {"state": "running", "started": time})


def _go_on(conn: Connection, of: Row[Any], each: Row[Any], engine: str, time: int) -> wire.Work:
    progress = read(each.body)
    if each.engine:  # It would have let go of what it is done with.
        note = f"Engine {each.engine} was not heard of for {LEASE_MS // 1000} s, and {engine} goes on."
        _write_line(conn, each.id, progress, wire.Line(time, "again", note=note, engine=each.engine))
    return _lease(conn, of, each, progress, engine, time, {})


def _lease(
    conn: Connection, of: Row[Any], each: Row[Any], progress: Progress, engine: str, time: int, values: dict[str, Any]
) -> wire.Work:
    values = {**values, "due": time + LEASE_MS, "turn": each.turn + 1, "engine": engine, "body": msgspec.json.encode(progress)}
    conn.execute(update(firing).where(firing.c.id == each.id).values(values))
    return _work(conn, of.name, each.id, progress)


def _work(conn: Connection, name: str, key: int, progress: Progress) -> wire.Work:
    ((row, said),) = firings.load(conn, [key])
    assert progress.rule is not None
    return wire.Work(said, progress.rule, row.turn, _key(said.id, progress), LEASE_MS)


def _key(uuid: str, progress: Progress) -> str:
    """A step of a firing, the same each time that it is tried."""
    return f"{uuid}-{'o' if progress.phase == 'otherwise' else ''}{progress.step}"


def _set_due(conn: Connection, of: Row[Any], time: int) -> None:
    """When there is something to do about a rule next."""
    running = (firing.c.rule == of.id, firing.c.state == "running")
    first, count = conn.execute(select(func.min(firing.c.due), func.count()).where(*running)).one()
    asked, found = _rule(of.body), [first] if first is not None else []
    waits = select(firing.c.id).where(firing.c.rule == of.id, firing.c.state == "waiting").limit(1)
    if of.state == "active" and count < asked.at_once and conn.execute(waits).first():
        found.append(_allowed(conn, of, asked, time)[1])
    conn.execute(update(rule).where(rule.c.id == of.id).values(due=min(found, default=None)))


def look_again(conn: Connection, key: int, time: int) -> None:
    """Something about this rule is another than it was."""
    of = conn.execute(select(rule).where(rule.c.id == key)).one()
    _set_due(conn, of, time)


def report(conn: Connection, request: wire.Report, time: int) -> list[wire.Work]:
    """What became of a step; the engine's next one of this rule, if there is one. Raises Conflict if another engine has it by now."""
    found = conn.execute(select(firing).where(firing.c.uuid == request.id)).first()
    if found is None or found.turn != request.turn or found.state != "running":
        raise Conflict(f"Firing {request.id[:12]} is no longer this engine's.", "Nothing is lost: whoever has it goes on.")
    of = conn.execute(select(rule).where(rule.c.id == found.rule)).one()
    progress = read(found.body)
    if request.key != _key(found.uuid, progress):  # Its report has come before, and the answer to it was lost.
        raise Conflict(f"Step {request.key[:48]} is over.", "Nothing is lost: the firing goes on with the next one.")
    request = _judged(progress, request)
    _tell(conn, found.id, progress, request, time)
    values = _after(progress, request, time)
    goes_on = values.pop("goes_on", False)
    values |= {"body": msgspec.json.encode(progress), "engine": request.engine if goes_on else ""}
    conn.execute(update(firing).where(firing.c.id == found.id).values(values))
    if goes_on:
        return [_work(conn, of.name, found.id, progress)]
    work = _take(conn, of, request.engine, 1, time) if request.room and values.get("ended") else []
    _set_due(conn, of, time)
    return work


def _judged(progress: Progress, said: wire.Report) -> wire.Report:
    """A failure that may pass, and has been tried often enough, is one that does not."""
    assert progress.rule is not None
    if said.state != "again" or progress.tries < progress.rule.retry.times:
        return said
    times = f" That was try {progress.tries + 1}, and the last." if progress.tries else ""
    return msgspec.structs.replace(said, state="failed", note=f"{said.note}{times}")


def _tell(conn: Connection, key: int, progress: Progress, said: wire.Report, time: int) -> None:
    """A line for what is new: a step that still waits for the same says so once."""
    if said.state != "waiting" or said.note != progress.note or not progress.result:
        line = wire.Line(time, said.state, note=said.note, result=said.result, engine=said.engine, seconds=said.seconds)
        _write_line(conn, key, progress, line)


def _write_line(conn: Connection, key: int, progress: Progress, line: wire.Line) -> None:
    at = msgspec.structs.replace(line, phase=progress.phase, step=progress.step, tries=progress.tries)
    conn.execute(insert(firing_line).values(firing=key, body=msgspec.json.encode(at)))


def _after(progress: Progress, said: wire.Report, time: int) -> dict[str, Any]:
    """What a report makes of a firing: its row's values, and whether the engine goes on with its next step at once."""
    assert progress.rule is not None
    progress.note = said.note
    if said.state == "waiting":
        progress.result = said.result
        wait = said.wait or min(_MOST_POLL_MS, max(_POLL_MS, (time - progress.begun) // 20))
        return {"due": time + max(0, wait)}
    if said.state == "again":
        progress.tries += 1
        return {"due": time + _back_off(progress.rule.retry, progress.tries)}
    progress.result, progress.tries, progress.begun = {}, 0, time
    if said.state == "done":
        if progress.phase == "then":
            progress.steps.append(said.result)
        return _next(progress, time)
    if progress.phase == "then":
        progress.outcome, progress.why = ("stopped" if said.state == "stopped" else "failed"), said.note
        if not progress.rule.otherwise:
            return _over(progress, time)
        progress.phase, progress.step = "otherwise", -1
    return _next(progress, time)


def _back_off(retry: wire.Retry, tries: int) -> int:
    doubled: int = wire.span(retry.wait) << min(tries - 1, 30)
    return min(doubled, wire.span(retry.most))


def _next(progress: Progress, time: int) -> dict[str, Any]:
    assert progress.rule is not None
    steps = progress.rule.then if progress.phase == "then" else progress.rule.otherwise
    if progress.step + 1 < len(steps):
        progress.step += 1
        return {"due": time + LEASE_MS, "goes_on": True}
    return _over(progress, time)


def _over(progress: Progress, time: int) -> dict[str, Any]:
    return {"state": progress.outcome or "done", "ended": time, "due": 0}


def renew(conn: Connection, request: wire.Renew, time: int) -> wire.Renewed:
    """Those who are at it still are."""
    lost: list[str] = []
    for each in request.leases:
        own = (firing.c.uuid == each.id, firing.c.turn == each.turn, firing.c.state == "running")
        if not conn.execute(update(firing).where(*own).values(due=time + LEASE_MS)).rowcount:
            lost.append(each.id)
    return wire.Renewed(lost)
