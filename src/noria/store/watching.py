"""Metrics that rules wait for. They are looked at when the hot log is folded, in that transaction, so that each point is seen once and
logging waits for nothing; metrics that no rule asks for cost one look-up for each fold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, delete, select

from noria.store import events, rows
from noria.store.metrics import split
from noria.store.schema import latest, metric_watch, rule, rule_want, run, run_ended
from noria.store.thresholds import Crossing, Threshold, Watch, follow

_threshold = msgspec.json.Decoder(Threshold).decode


class _Want(NamedTuple):
    rule: int
    asked: Threshold
    since: int


def _wants(conn: Connection, on: str) -> dict[str, list[_Want]]:
    """What active rules wait for, by metric."""
    query = select(rule_want.c.name, rule_want.c.body, rule.c.id, rule.c.changed).join(rule, rule.c.id == rule_want.c.rule)
    found: dict[str, list[_Want]] = {}
    for name, body, key, since in conn.execute(query.where(rule_want.c.kind == "metric", rule.c.state == "active")):
        if (asked := _threshold(body)).on == on:
            found.setdefault(name, []).append(_Want(key, asked, since))
    return found


def look(conn: Connection, groups: Mapping[tuple[int, str], list[bytes]], rewound: Collection[int]) -> None:
    """Batches that are folded now, by run and keys; and runs that go on from an earlier step, whose points are looked at anew."""
    wants = _wants(conn, "live")
    if not wants:
        return
    conn.execute(delete(metric_watch).where(metric_watch.c.run.in_(list(rewound)), metric_watch.c.told == 0))
    for (key, names), bodies in groups.items():
        listed = names.split("\n")
        if wants.keys().isdisjoint(listed):
            continue
        for name, part in split(listed, bodies):
            if name in wants:
                points = list(zip(part.values.tolist(), part.times.tolist(), part.steps.tolist(), strict=True))
                _follow(conn, key, wants[name], points)


def _follow(conn: Connection, key: int, wants: Sequence[_Want], points: list[tuple[float, int, int]]) -> None:
    said = events.of_run(conn, key)
    asked = [each for each in wants if each.asked.covers(said["experiment"])]
    query = select(metric_watch).where(metric_watch.c.run == key, metric_watch.c.rule.in_([each.rule for each in asked]))
    known = {each.rule: Watch(each.begun, bool(each.told)) for each in conn.execute(query)} if asked else {}
    for each in asked:
        before = known.get(each.rule, Watch())
        found, after = follow(each.asked, before, points, each.since)
        for crossing in found:
            _tell(conn, each, said, crossing)
        if after != before:
            rows.upsert(conn, metric_watch, [{"rule": each.rule, "run": key, "begun": after.begun, "told": int(after.told)}])


def _tell(conn: Connection, want: _Want, run_said: Mapping[str, Any], at: Crossing) -> None:
    which = f"/{at.begun}" if want.asked.again else ""
    key = f"metric/{want.rule}/{run_said['run_id']}{which}"
    chain = events.chain(conn, [run_said["run_id"]])
    events.add(
        conn, "metric", want.asked.metric, key, said(want.asked, run_said, at), time=at.time, cause=chain, rule=want.rule
    )  # fmt: skip


def said(asked: Threshold, run_said: Mapping[str, Any], at: Crossing) -> dict[str, Any]:
    """What an event says of a metric."""
    return {"name": asked.metric, "metric": asked.metric, "value": at.value, "step": at.step, "since_step": at.begun, **run_said}


def ended(conn: Connection, keys: Sequence[int] | Select[Any], status: object) -> None:
    """Runs have ended, if that is their status: what they logged last is looked at when it is folded."""
    if status != "FINISHED" or not _wants(conn, "finished"):
        return
    listed = conn.execute(keys).scalars() if isinstance(keys, Select) else keys
    rows.keep(conn, run_ended, [{"run": each} for each in listed])
    conn.info["appended"] = True  # There may be nothing to fold, and it is to be looked at all the same.


def last(conn: Connection) -> None:
    """Runs that have ended, and all of whose metrics are folded by now."""
    ids = conn.execute(select(run_ended.c.run)).scalars().all()
    if not ids:
        return
    wants = _wants(conn, "finished")
    for key in ids:
        about = events.of_run(conn, key)
        values = {
            each.key: each for each in conn.execute(select(latest).where(latest.c.run == key, latest.c.key.in_(list(wants))))
        }
        ending = conn.execute(select(run.c.end_time).where(run.c.id == key)).scalar() or 0
        for name, asked in wants.items():
            for each in asked:
                at = values.get(name)
                if at is not None and at.value is not None and each.since <= ending and each.asked.covers(about["experiment"]):
                    _at_end(conn, each, about, Crossing(at.value, at.step, ending, at.step))
    conn.execute(delete(run_ended).where(run_ended.c.run.in_(ids)))


def _at_end(conn: Connection, want: _Want, about: Mapping[str, Any], at: Crossing) -> None:
    if want.asked.beyond(at.value):
        _tell(conn, want, about, at)
