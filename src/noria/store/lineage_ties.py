"""What ties one thing to another: each row of `TIES` is a query for pairs, asked from either end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, and_, exists, select
from sqlalchemy.orm import aliased

from noria.store import lineage_evaluated, lineage_served, lineage_versions, rows
from noria.store.schema import dataset, logged_model, model_version, run, run_model, tag
from noria.wire.lineage import Edge, Kind, key, split

CODE, COMMIT, JOB, PARENT = "noria.code", "mlflow.source.git.commit", "noria.job", "mlflow.parentRunId"
CHANGED = " with changes"
_FROZEN = 32
"""Characters of the hash of what was frozen; a commit of git has more."""


class End(Struct, frozen=True):
    """One end of a tie. column: where its ids stand; `stored`: how an id may stand there; `read`: the id of what stands there."""

    kind: Kind
    column: ColumnElement[Any]
    stored: Callable[[str], Sequence[str]] = lambda name: (name,)
    read: Callable[[str], str] = str


class Tie(Struct, frozen=True):
    """Pairs of things of which the second came of the first. order: which pairs come first if there is no room for all. before: where
    those pairs are that come before all others then."""

    first: End
    verb: str
    second: End
    pairs: Select[Any]
    order: tuple[ColumnElement[Any], ...] = ()
    before: Select[Any] | None = None


def frozen(name: str) -> bool:
    """Whether code is named by the hash of what was frozen, and not by a commit."""
    return len(name) == _FROZEN


def code_tags(name: str) -> tuple[str, ...]:
    """How the tag of a run names the code that was frozen for its job."""
    return (f"{name}.tar", f"{name}.tar{CHANGED}") if frozen(name) else ()


def _tagged(name: str) -> Any:
    return aliased(tag, name=name)


def _ties() -> list[Tie]:
    code, commit, job, parent = (_tagged(name) for name in ("code", "commit", "job", "parent"))
    of_commit = and_(commit.c.key == COMMIT)
    frozen_too = exists().where(code.c.run == commit.c.run, code.c.key == CODE)
    at_code = End("code", code.c.beginning, code_tags, lambda text: text.partition(".")[0])
    at_commit = End("code", commit.c.beginning, lambda name: () if frozen(name) else (name,))
    at_job, at_parent = End("job", job.c.beginning), End("run", parent.c.beginning)
    at_run, at_model = End("run", run.c.uuid), End("model", logged_model.c.id)
    of = _tagged("of")
    read, wrote = aliased(run_model, name="read"), aliased(run_model, name="wrote")
    newest = (run.c.id.desc(),)
    read_by = select(dataset.c.digest, run.c.uuid).join(run, run.c.id == dataset.c.run)
    return [
        Tie(End("data", dataset.c.digest), "read by", at_run, read_by, (dataset.c.run.desc(),),
            read_by.join(model_version, model_version.c.run_id == run.c.uuid)),
        Tie(at_commit, "frozen as", at_code,
            select(commit.c.value, code.c.value).join(code, code.c.run == commit.c.run).where(of_commit, code.c.key == CODE)),
        Tie(at_code, "run by", at_job,
            select(code.c.value, job.c.value).join(job, job.c.run == code.c.run).where(code.c.key == CODE, job.c.key == JOB),
            (job.c.run.desc(),)),
        Tie(at_commit, "run by", at_run,
            select(commit.c.value, run.c.uuid).join(run, run.c.id == commit.c.run).where(of_commit, ~frozen_too), newest),
        Tie(at_job, "made", at_run,
            select(job.c.value, run.c.uuid).join(run, run.c.id == job.c.run).where(job.c.key == JOB), newest),
        Tie(at_parent, "started", at_run,
            select(parent.c.value, run.c.uuid).join(run, run.c.id == parent.c.run).where(parent.c.key == PARENT), newest),
        Tie(End("version", of.c.beginning), "evaluated by", at_run,
            select(of.c.value, run.c.uuid).join(run, run.c.id == of.c.run).where(of.c.key == lineage_evaluated.OF), newest),
        Tie(End("run", logged_model.c.run), "logged", at_model,
            select(logged_model.c.run, logged_model.c.id).where(logged_model.c.run != "")),
        Tie(at_run, "logged", End("model", wrote.c.model_id),
            select(run.c.uuid, wrote.c.model_id).join(run, run.c.id == wrote.c.run).where(wrote.c.direction == "output"), newest),
        Tie(End("model", read.c.model_id), "read by", at_run,
            select(read.c.model_id, run.c.uuid).join(run, run.c.id == read.c.run).where(read.c.direction == "input"), newest),
    ]  # fmt: skip


TIES = _ties()
_MORE = (lineage_versions.edges, lineage_evaluated.edges, lineage_served.edges)
"""Ties of which one end is not in a column alone: (connection, ids by kind, up, most) -> edges."""


def neighbours(conn: Connection, level: Iterable[str], *, up: bool, most: int) -> tuple[list[Edge], bool]:
    """The edges that lead away from some nodes, of each tie at most so many, and whether one had as many."""
    ids: dict[Kind, list[str]] = {}
    for each in level:
        kind, name = split(each)
        ids.setdefault(kind, []).append(name)
    found = [_pairs(conn, tie, ids, up, most) for tie in TIES] + [more(conn, ids, up=up, most=most) for more in _MORE]
    return [edge for edges in found for edge in edges], any(len(edges) >= most for edges in found)


def _pairs(conn: Connection, tie: Tie, ids: dict[Kind, list[str]], up: bool, most: int) -> list[Edge]:
    near = tie.second if up else tie.first
    stored = [text for name in ids.get(near.kind, []) for text in near.stored(name)]
    if not stored:
        return []
    query = tie.pairs.where(rows.within(conn, near.column, stored)).order_by(*tie.order).limit(most)
    found = conn.execute(query).all()
    if len(found) >= most and tie.before is not None:
        query = tie.before.where(rows.within(conn, near.column, stored)).order_by(*tie.order).limit(most)
        found = [*conn.execute(query), *found]
    return [
        Edge(key(tie.first.kind, tie.first.read(first)), key(tie.second.kind, tie.second.read(second)), tie.verb)
        for first, second in found
    ]
