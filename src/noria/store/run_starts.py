"""Where a search of runs begins: among all of them, or among the few that one clause finds by its index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import isqrt
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    FromClause,
    Select,
    and_,
    func,
    select,
    true,
    union,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.selectable import Join

from noria.store import fields
from noria.store.fields import Field
from noria.store.filters import AllOf, AnyOf, Comparison, Identifier, Kind, Node
from noria.store.schema import BEGINNING, dataset, latest, param, run, tag

ATTRIBUTES = {
    "run_id": Field(run.c.uuid),
    "run_name": Field(run.c.name),
    "status": Field(run.c.status),
    "user_id": Field(run.c.user_id),
    "artifact_uri": Field(run.c.artifact_uri),
    "start_time": Field(run.c.start_time),
    "end_time": Field(run.c.end_time, may_miss=True),
    "duration": Field(run.c.end_time - run.c.start_time, may_miss=True),
}
TABLES = {"metrics": latest, "params": param, "tags": tag}
METRIC = {"last": "value", "first": "first", "min": "min", "max": "max"}
_RUN = run.alias("run_0")
_NEWEST = select(func.max(run.c.id))
ALL = -1
_HEADS = 8
_CHOICES, _CHOICE_SECONDS = 10_000, 60.0
_STEPS = 64
"""Steps along an index, each with a look at whether a run is one of a few, that take as long as a look at all that is asked of one run."""


class Choice(Struct, frozen=True):
    """The part of a filter that finds the fewest runs to look at: ALL if all of the experiments are fewer, None if none are few.
    walks: whether a walk along the index of an order costs less than to look at all of these and to sort them."""

    at: int | None
    walks: bool = False


_chosen: WeakKeyDictionary[Engine, dict[tuple[str, int], tuple[Choice, float]]] = WeakKeyDictionary()
"""Where to begin with a question, and how long that holds; by its name and the size of its page."""


class Start(Struct, frozen=True, eq=False):
    """Where a query begins: the first tables of its FROM, and what must hold."""

    tables: FromClause
    where: ColumnElement[bool]


def run_fields(key: ColumnElement[int]) -> fields.Fields:
    """What identifiers mean for the run with this key: run.id, or what is the same and known earlier in the query."""

    def field(identifier: Identifier) -> Field:
        if identifier.kind == "attributes":
            return ATTRIBUTES[identifier.key]
        if identifier.kind == "datasets":
            column = dataset.c[identifier.key]
            return Field(column, (dataset.c.run == key, column.is_not(None)))
        table = TABLES[identifier.kind]
        return _field(table, identifier, (table.c.run == key, table.c.key == identifier.key))

    return field


def _field(own: FromClause, identifier: Identifier, found: tuple[ColumnElement[bool], ...] = ()) -> Field:
    is_metric = identifier.kind == "metrics"
    return Field(own.c[METRIC[identifier.of]], found, is_metric, beginning=None if is_metric else own.c.beginning)


def everything(scope: ColumnElement[bool], parts: Sequence[Node]) -> Start:
    return Start(run, and_(scope, fields.condition(parts, run_fields(run.c.id))))


def choice(conn: Connection, name: str, scope: ColumnElement[bool], parts: list[Node], size: int) -> Choice:
    """Where to begin. It holds for some time, since another choice would find the same."""
    chosen, now = _chosen.setdefault(conn.engine, {}), monotonic()
    found, until = chosen.get((name, size), (Choice(None), 0.0))
    if until < now:
        if len(chosen) >= _CHOICES:
            chosen.clear()
        found = _choose(conn, scope, parts, size)
        chosen[name, size] = found, now + _CHOICE_SECONDS
    return found


def unfilled(conn: Connection, name: str, size: int) -> None:
    """A walk among the few ended before its page was full, so it has looked at each of them: from now on they are sorted."""
    chosen = _chosen.setdefault(conn.engine, {})
    if (name, size) in chosen:
        found, until = chosen[name, size]
        chosen[name, size] = Choice(found.at), until


def start(scope: ColumnElement[bool], parts: list[Node], at: int | None) -> Start:
    """The beginning that was chosen; if none was, that among all."""
    if at is None or at == ALL:
        return everything(scope, parts)
    head = _head(parts[at]).subquery("head")
    key: ColumnElement[int] = head.c[0]
    return Start(Across(head, run, key == run.c.id), and_(scope, fields.condition(_rest(parts, at), run_fields(key))))


def met(parts: list[Node], at: int | None, key: ColumnElement[int]) -> ColumnElement[bool]:
    """That a row which is walked over is of a run that matches: first whether it is one of the few, who are found once."""
    if at is None or at == ALL:
        return fields.condition(parts, run_fields(key))
    # As a value of its own: PostgreSQL would begin with the few, and look at each of them.
    few = key.in_(_head(parts[at])).is_(true())
    return and_(few, fields.condition(_rest(parts, at), run_fields(key)))


def _choose(conn: Connection, scope: ColumnElement[bool], parts: list[Node], size: int) -> Choice:
    """Walking until a page is full takes about size * all / few steps, if what is looked for is spread evenly; looking at the few
    takes as many steps as there are. The two are equal where few is the root of size * all.
    """
    newest = conn.execute(_NEWEST).scalar() or 0
    few = isqrt(size * newest)
    covered = [(at, cover) for at, part in enumerate(parts) if (cover := _cover(part))][:_HEADS]
    heads = [select(run.c.id).where(scope), *(union_all(*cover) if len(cover) > 1 else cover[0] for _, cover in covered)]
    counts = conn.execute(select(*(_count(head, few + 1) for head in heads))).one()
    least = min(range(len(counts)), key=counts.__getitem__)
    if counts[least] > few:
        return Choice(None, walks=True)
    walks = counts[least] >= size and counts[least] * _STEPS > newest
    return Choice(covered[least - 1][0], walks) if least else Choice(ALL)


def _count(head: Select[Any] | CompoundSelect[Any], most: int) -> ColumnElement[int]:
    return select(func.count()).select_from(head.limit(most).subquery()).scalar_subquery()


def _head(part: Node) -> Select[Any] | CompoundSelect[Any]:
    """The keys of the runs that a part's cover finds."""
    cover = _cover(part) or []
    return union(*cover) if len(cover) > 1 else cover[0]


def _rest(parts: list[Node], at: int) -> list[Node]:
    """What is still to be asked of these runs: the cover of a single clause is all that it says."""
    return [other for number, other in enumerate(parts) if number != at or not isinstance(other, Comparison)]


def _cover(node: Node) -> list[Select[Any]] | None:
    """Questions that an index alone can answer; all runs that match the node are among what they find. None: there are none."""
    if isinstance(node, Comparison):
        return [_keys(node)] if _is_indexed(node) else None
    if isinstance(node, AllOf):
        return next((cover for cover in map(_cover, node.parts) if cover), None)
    if isinstance(node, AnyOf):
        covers = [_cover(part) for part in node.parts]
        return None if None in covers else [each for cover in covers for each in cover or []]
    return None


def _is_indexed(clause: Comparison) -> bool:
    left = clause.left
    if left.kind in TABLES:
        return left.of == "last" and clause.op != "IS"
    return left.key == "run_id" and clause.op in ("=", "IN")


def _keys(clause: Comparison) -> Select[Any]:
    """The keys of the runs that a clause means."""
    if clause.left.kind == "attributes":
        return select(_RUN.c.id).where(fields.test(Field(_RUN.c.uuid), clause))
    own = alias(clause.left.kind, 0)
    return select(own.c.run).where(own.c.key == clause.left.key, *_held(own, clause))


def _held(own: FromClause, clause: Comparison) -> Iterator[ColumnElement[bool]]:
    """What a clause asks of a value."""
    if clause.value is None:
        return
    yield fields.test(_field(own, clause.left), clause)
    if clause.left.kind != "metrics" and clause.op in ("=", "IN"):
        texts: list[Any] = clause.value if isinstance(clause.value, list) else [clause.value]
        if any(len(text) >= BEGINNING for text in texts):
            yield own.c.beginning.in_([text[:BEGINNING] for text in texts])


@cache
def alias(kind: Kind, number: int) -> FromClause:
    """Number 0 is where a query starts; others are joined for an order's terms."""
    return TABLES[kind].alias(f"{kind}_{number}")


@cache
def walked(kind: Kind) -> FromClause:
    """The table along whose index a query walks."""
    return TABLES[kind].alias("walked")


class Across(Join):
    """A join whose left side is read first. SQLite knows that as CROSS JOIN; PostgreSQL has counts of its own to judge by."""

    inherit_cache = True


@compiles(Across, "sqlite")
def _cross(element: Any, compiler: Any, **options: Any) -> str:
    return str(compiler.visit_join(element, **options)).replace(" JOIN ", " CROSS JOIN ", 1)
