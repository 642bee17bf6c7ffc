"""From firings to steps: handed to one engine at a time, in order, within a rule's rate; and what became of them.

Whoever has a step has it until its lease is over, and renews that meanwhile. `due` of a firing is when something is to be done about it, the
end of a lease included; `due` of a rule is the first of those, so that nothing else need be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, update

from noria.errors import Conflict
from noria.store import database, firings
from noria.store.firings import Progress, Row
from noria.store.firings import progress as read
from noria.store.schema import firing
from noria.wire import rules as wire

LEASE_MS = 30_000
"""An engine that has not been heard of for so long has lost its steps to the next that asks."""
_POLL_MS, _MOST_POLL_MS = 2_000, 60_000
_ANY = 1000
_rule = lru_cache(1024)(msgspec.json.Decoder(wire.Rule).decode)


class _Of(NamedTuple):
    """A rule's row, as far as steps need it."""

    id: int
    name: str
    state: str
    asked: wire.Rule


def _ofs(conn: Connection, where: str, values: Sequence[object]) -> list[_Of]:
    found = database.run(conn, f"SELECT id, name, state, body FROM rule WHERE {where}", values)  # noqa: S608 (our own text)
    return [_Of(key, name, state, _rule(body)) for key, name, state, body in found.fetchall()]


def claim(conn: Connection, request: wire.Claim, time: int) -> list[wire.Work]:
    """Steps that are due, for this engine: those that nobody is at any more, those that wait for something, and new firings in order."""
    work: list[wire.Work] = []
    for each in _ofs(conn, "due <= ? ORDER BY due, id LIMIT ?", (time, request.room * 4)):
        if len(work) < request.room:
            work += _take(conn, each, request.engine, request.room - len(work), time)
    return work


def look_again(conn: Connection, key: int, time: int) -> None:
    """Something about this rule is another than it was."""
    _take(conn, _ofs(conn, "id = ?", (key,))[0], "", 0, time)


def _take(conn: Connection, of: _Of, engine: str, room: int, time: int) -> list[wire.Work]:
    """What this engine gets of a rule, as many as it has room for; and when there is something to do about the rule next."""
    running = firings.some(conn, "firing.rule = ? AND firing.state = 'running' ORDER BY firing.id", (of.id,))
    again = [each for each in running if each.due <= time][:room]
    free = of.asked.at_once - len(running) if of.state == "active" else 0
    starts = _starts(conn, of, time)
    may = max(0, min(room - len(again), free, _allowed(of.asked, starts)))
    waiting = "firing.rule = ? AND firing.state = 'waiting' ORDER BY firing.id LIMIT ?"
    fresh = firings.some(conn, waiting, (of.id, may + 1)) if free > 0 else []
    work = [_go_on(conn, each, engine, time) for each in again] + [_begin(conn, of, each, engine, time) for each in fresh[:may]]
    mine = {each.id for each in again}
    due = [each.due for each in running if each.id not in mine] + [time + LEASE_MS] * bool(work)
    if len(fresh) > may and free > may:
        due.append(_ready(of.asked, [time] * may + starts, time))
    database.run(conn, "UPDATE rule SET due = ? WHERE id = ?", (min(due, default=None), of.id))
    return work


def _starts(conn: Connection, of: _Of, time: int) -> list[int]:
    """When firings of a rule have started within the span of its rate, the last first, as many as it allows."""
    most, within = wire.pace(of.asked.rate)
    asked = "SELECT started FROM firing WHERE rule = ? AND started > ? AND started <= ? ORDER BY started DESC LIMIT ?"
    return [each for (each,) in database.run(conn, asked, (of.id, time - within, time, most)).fetchall()] if most else []


def _allowed(asked: wire.Rule, starts: Sequence[int]) -> int:
    most, _ = wire.pace(asked.rate)
    return most - len(starts) if most else _ANY


def _ready(asked: wire.Rule, starts: Sequence[int], time: int) -> int:
    """When the next firing may start."""
    most, within = wire.pace(asked.rate)
    return starts[most - 1] + within if most and len(starts) >= most else time


def _begin(conn: Connection, of: _Of, each: Row, engine: str, time: int) -> wire.Work:
    progress = read(each.body)
    progress.rule, progress.begun = of.asked, time
    return _lease(conn, each._replace(state="running", started=time), progress, engine, time)


def _go_on(conn: Connection, each: Row, engine: str, time: int) -> wire.Work:
    progress = read(each.body)
    if each.engine:  # It would have let go of what it is done with.
        note = f"Engine {each.engine} was not heard of for {LEASE_MS // 1000} s, and {engine} goes on."
        _write_line(conn, each.id, progress, wire.Line(time, "again", note=note, engine=each.engine))
    return _lease(conn, each, progress, engine, time)


_SET = "UPDATE firing SET state = ?, started = ?, ended = ?, due = ?, turn = ?, engine = ?, body = ? WHERE id = ?"


def _put(conn: Connection, row: Row, progress: Progress) -> None:
    body = msgspec.json.encode(progress)
    database.run(conn, _SET, (row.state, row.started, row.ended, row.due, row.turn, row.engine, body, row.id))


def _lease(conn: Connection, each: Row, progress: Progress, engine: str, time: int) -> wire.Work:
    row = each._replace(due=time + LEASE_MS, turn=each.turn + 1, engine=engine)
    _put(conn, row, progress)
    return _work(row, progress)


def _work(row: Row, progress: Progress) -> wire.Work:
    assert progress.rule is not None
    return wire.Work(firings.said(row, progress), progress.rule, row.turn, _key(row.uuid, progress), LEASE_MS)


def _key(uuid: str, progress: Progress) -> str:
    """A step of a firing, the same each time that it is tried."""
    return f"{uuid}-{'o' if progress.phase == 'otherwise' else ''}{progress.step}"


def report(conn: Connection, request: wire.Report, time: int) -> list[wire.Work]:
    """What became of a step; the engine's next one of this rule, if there is one. Raises Conflict if another engine has it by now."""
    found = next(iter(firings.some(conn, "firing.uuid = ?", (request.id,))), None)
    if found is None or found.turn != request.turn or found.state != "running":
        raise Conflict(f"Firing {request.id[:12]} is no longer this engine's.", "Nothing is lost: whoever has it goes on.")
    progress = read(found.body)
    if request.key != _key(found.uuid, progress):  # Its report has come before, and the answer to it was lost.
        raise Conflict(f"Step {request.key[:48]} is over.", "Nothing is lost: the firing goes on with the next one.")
    request = _judged(progress, request)
    _tell(conn, found.id, progress, request, time)
    row = _after(found, progress, request, time)
    _put(conn, row, progress)
    if row.engine:
        return [_work(row, progress)]
    (of,) = _ofs(conn, "id = ?", (found.rule,))
    return _take(conn, of, request.engine, 1 if request.room and row.ended else 0, time)


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
    database.run(conn, "INSERT INTO firing_line (firing, body) VALUES (?, ?)", (key, msgspec.json.encode(at)))


def _after(row: Row, progress: Progress, said: wire.Report, time: int) -> Row:
    """What a report makes of a firing, whose progress is changed. Its engine keeps it if there is another step to do at once."""
    assert progress.rule is not None
    progress.note = said.note
    if said.state == "waiting":
        progress.result = said.result
        wait = said.wait or min(_MOST_POLL_MS, max(_POLL_MS, (time - progress.begun) // 20))
        return row._replace(due=time + max(0, wait), engine="")
    if said.state == "again":
        progress.tries += 1
        return row._replace(due=time + _back_off(progress.rule.retry, progress.tries), engine="")
    progress.result, progress.tries, progress.begun = {}, 0, time
    if said.state == "done" and progress.phase == "then":
        progress.steps.append(said.result)
    elif said.state != "done" and progress.phase == "then":
        progress.outcome, progress.why = ("stopped" if said.state == "stopped" else "failed"), said.note
        if not progress.rule.otherwise:
            return _over(row, progress, time)
        progress.phase, progress.step = "otherwise", -1
    return _next(row, progress, time)


def _back_off(retry: wire.Retry, tries: int) -> int:
    doubled: int = wire.span(retry.wait) << min(tries - 1, 30)
    return min(doubled, wire.span(retry.most))


def _next(row: Row, progress: Progress, time: int) -> Row:
    assert progress.rule is not None
    steps = progress.rule.then if progress.phase == "then" else progress.rule.otherwise
    if progress.step + 1 < len(steps):
        progress.step += 1
        return row._replace(due=time + LEASE_MS)
    return _over(row, progress, time)


def _over(row: Row, progress: Progress, time: int) -> Row:
    return row._replace(state=progress.outcome or "done", ended=time, due=0, engine="")


def renew(conn: Connection, request: wire.Renew, time: int) -> wire.Renewed:
    """Those who are at it still are."""
    lost: list[str] = []
    for each in request.leases:
        own = (firing.c.uuid == each.id, firing.c.turn == each.turn, firing.c.state == "running")
        if not conn.execute(update(firing).where(*own).values(due=time + LEASE_MS)).rowcount:
            lost.append(each.id)
    return wire.Renewed(lost)
