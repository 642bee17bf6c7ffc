"""What is known of the things in a lineage: one statement or two for each kind, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select, tuple_

from noria.store import lineage_evaluated, lineage_served, lineage_ties, lineage_versions
from noria.store.schema import dataset, experiment, job, logged_model, run, tag
from noria.types import DatasetInput, JobSpec
from noria.wire.lineage import DELETED, GONE, Kind, Node, key, split

_SHORT = 12
Found = dict[str, Node]


def nodes(conn: Connection, keys: Sequence[str]) -> Found:
    """The nodes of some keys. What is named somewhere and is not there is gone, and a node all the same."""
    ids: dict[Kind, list[str]] = {}
    for each in keys:
        kind, name = split(each)
        ids.setdefault(kind, []).append(name)
    found: Found = {}
    for kind, names in ids.items():
        found |= {node.key: node for node in _LOAD[kind](conn, names)}
    return {each: found.get(each) or _gone(each) for each in keys}


def _gone(each: str) -> Node:
    kind, name = split(each)
    return Node(each, kind, name, name, GONE)


def _node(kind: Kind, name: str, title: str, state: str = "", time: int | None = 0, where: str = "", **facts: object) -> Node:
    told = {name: str(value) for name, value in facts.items() if value not in ("", None)}
    return Node(key(kind, name), kind, name, title or name, state, time or 0, where, told)


def _data(conn: Connection, names: Sequence[str]) -> list[Node]:
    own, counted = dataset.c, func.count().label("count")
    query = select(own.digest, own.name, counted, func.min(own.run).label("run")).where(own.digest.in_(names))
    found: dict[str, list[Row[Any]]] = {}
    for row in conn.execute(query.group_by(own.digest, own.name).order_by(own.name)):
        found.setdefault(row.digest, []).append(row)
    if not found:
        return []
    first = [min(rows, key=lambda row: int(row.run)) for rows in found.values()]
    at = tuple_(own.run, own.name, own.digest).in_([(row.run, row.name, row.digest) for row in first])
    bodies = conn.execute(select(own.digest, own.body, run.c.start_time).join(run, run.c.id == own.run).where(at))
    said = {row.digest: (msgspec.json.decode(row.body, type=DatasetInput).dataset, row.start_time) for row in bodies}
    return [
        _node("data", digest, ", ".join(row.name for row in rows), "", said[digest][1], said[digest][0].source[:1000],
              digest=digest, runs=sum(int(row._mapping["count"]) for row in rows))
        for digest, rows in found.items()
    ]  # fmt: skip


def _code(conn: Connection, names: Sequence[str]) -> list[Node]:
    """Of frozen code and of commits, each by the first run of it."""
    frozen = {text: name for name in names for text in lineage_ties.code_tags(name)}
    commits = {name: name for name in names if not lineage_ties.frozen(name)}
    found: Found = {}
    for tag_key, texts in ((lineage_ties.CODE, frozen), (lineage_ties.COMMIT, commits)):
        query = select(tag.c.value, func.min(tag.c.run).label("run")).where(
            tag.c.key == tag_key, tag.c.beginning.in_(list(texts))
        )
        first = {row.run: row.value for row in conn.execute(query.group_by(tag.c.value))} if texts else {}
        for row in conn.execute(
            select(run.c.id, run.c.start_time, job.c.spec).outerjoin(job, job.c.run_id == run.c.uuid).where(run.c.id.in_(first))
        ):
            node = _of_code(texts[first[row.id]], first[row.id], row)
            found.setdefault(node.id, node)
    return list(found.values())


def _of_code(name: str, text: str, row: Any) -> Node:
    if not lineage_ties.frozen(name):
        return _node("code", name, f"commit {name[:_SHORT]}", "", row.start_time)
    code = msgspec.json.decode(row.spec, type=JobSpec).code if row.spec is not None else None
    title = f"snapshot {name[:_SHORT]}{' with changes' if text.endswith(lineage_ties.CHANGED) else ''}"
    return _node("code", name, title, "", row.start_time, code.file if code else "", commit=code.commit if code else "")


def _jobs(conn: Connection, names: Sequence[str]) -> list[Node]:
    found = []
    for row in conn.execute(select(job).where(job.c.id.in_(names))):
        spec = msgspec.json.decode(row.spec, type=JobSpec)
        command = " ".join(spec.command)[:500]
        found.append(_node("job", row.id, spec.name or command, row.state, row.created, row.folder, command=command, user=row.user,
                           scheduler=spec.place, scheduler_id=row.scheduler_id, exit_code=row.exit_code))  # fmt: skip
    return found


def _runs(conn: Connection, names: Sequence[str]) -> list[Node]:
    query = (
        select(run, experiment.c.name.label("of"))
        .join(experiment, run.c.experiment == experiment.c.id)
        .where(run.c.uuid.in_(names))
    )
    return [
        _node(
            "run",
            row.uuid,
            row.name,
            _state(row, row.status),
            row.start_time,
            row.artifact_uri,
            experiment=row.of,
            user=row.user_id,
        )
        for row in conn.execute(query)
    ]


def _state(row: Row[Any], status: str) -> str:
    return status if row.lifecycle_stage == "active" else DELETED


def _models(conn: Connection, names: Sequence[str]) -> list[Node]:
    query = select(logged_model).where(logged_model.c.id.in_(names))
    found = [
        _node("model", row.id, row.name, _state(row, row.status.removeprefix("LOGGED_MODEL_")), row.creation_time, row.artifact_uri,
              type=row.model_type)
        for row in conn.execute(query)
    ]  # fmt: skip
    folders = {name: place for name in names if (place := lineage_versions.artifact(name))}
    runs = select(run).where(run.c.uuid.in_({uuid for uuid, _ in folders.values()}))
    known = {row.uuid: row for row in conn.execute(runs)} if folders else {}
    return found + [
        _node("model", name, path, _state(known[uuid], ""), known[uuid].start_time, f"{known[uuid].artifact_uri}/{path}")
        for name, (uuid, path) in folders.items()
        if uuid in known
    ]


def _versions(conn: Connection, names: Sequence[str]) -> list[Node]:
    return [
        _node("version", f"{row.name}/{row.version}", f"{row.name}/{row.version}", "" if row.stage == "None" else row.stage,
              row.creation_time, row.location, source=row.source, description=row.description[:200])
        for row in lineage_versions.rows(conn, names)
    ]  # fmt: skip


def _evaluations(conn: Connection, names: Sequence[str]) -> list[Node]:
    found = []
    for each in lineage_evaluated.load(conn, names):
        said = {name: value for name, value in each.evidence.items() if isinstance(value, str | int | float)}
        found.append(_node("evaluation", str(each.id), each.reason[:200] or "evaluation", "", each.time, f"{each.name}/{each.version}",
                           user=each.user, run=said.get("run_id", ""), data=said.get("held_out", "")))  # fmt: skip
    return found


def _endpoints(conn: Connection, names: Sequence[str]) -> list[Node]:
    return [
        _node("endpoint", each.endpoint_id, each.url, each.state, each.started, each.host, model=each.model_uri)
        for each in lineage_served.load(conn, names)
    ]


def _predictions(conn: Connection, names: Sequence[str]) -> list[Node]:
    found = []
    for each in lineage_served.load(conn, names):
        if (log := each.log) is not None:
            answered = ", ".join(f"version {number}: {count:,}" for number, count in log.versions.items() if number)
            found.append(_node("predictions", each.endpoint_id, f"{log.count:,} prediction{'' if log.count == 1 else 's'}", "", log.first, f"{each.host}:{PurePath(log.folder)}",
                               first=_day(log.first), last=_day(log.last), answered=answered, lost=log.lost or "",
                               sample="" if log.sample == 1 else log.sample))  # fmt: skip
    return found


def _day(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(" ", "seconds") if time else ""


_LOAD: dict[Kind, Callable[[Connection, Sequence[str]], list[Node]]] = {
    "data": _data, "code": _code, "job": _jobs, "run": _runs, "model": _models, "version": _versions, "evaluation": _evaluations,
    "endpoint": _endpoints, "predictions": _predictions,
}  # fmt: skip
