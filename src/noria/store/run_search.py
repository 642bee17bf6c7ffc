"""Searching of runs: which ones, in which order, a page at a time, and how many there are in all.

A page begins behind the last run of the page before: its token holds that run's place in the order, so a later page costs no
more than the first. Three ways lead to the same page, and which one is cheap depends on counts (`_narrow`):
- only a few runs are in question, because of their experiments or of one clause: look at these alone, and sort them;
- many are, and the order begins with a metric, param or tag: walk along its index until the page is full;
- many are, and it does not: look at all, by start time where that is the order, or sorting them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from math import isqrt
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    FromClause,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    union,
    union_all,
)  # fmt: skip
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.selectable import Join

from noria.errors import Invalid
from noria.store import bodies, database, experiments, fields, filters, page
from noria.store.fields import Field, Indexed
from noria.store.filters import AllOf, AnyOf, Comparison, Identifier, Kind, Node
from noria.store.page import Mark
from noria.store.schema import BEGINNING, dataset, latest, param, run, tag
from noria.wire import runs as wire

NAMES = filters.Names(
    texts=("run_id", "run_name", "status", "user_id", "artifact_uri"),
    numbers=("start_time", "end_time", "duration"),
    kinds=("metrics", "params", "tags", "datasets"),
    aliases={
        "run name": "run_name",
        "Run name": "run_name",
        "Run Name": "run_name",
        "created": "start_time",
        "Created": "start_time",
    },
)
_ATTRIBUTES = {
    "run_id": Field(run.c.uuid),
    "run_name": Field(run.c.name),
    "status": Field(run.c.status),
    "user_id": Field(run.c.user_id),
    "artifact_uri": Field(run.c.artifact_uri),
    "start_time": Field(run.c.start_time),
    "end_time": Field(run.c.end_time, may_miss=True),
    "duration": Field(run.c.end_time - run.c.start_time, may_miss=True),
}
_TABLES = {"metrics": latest, "params": param, "tags": tag}
_METRIC = {"last": "value", "first": "first", "min": "min", "max": "max"}
_TIES = ((Identifier("attributes", "start_time"), False), (Identifier("attributes", "run_id"), True))
_RUN = run.alias("run_0")
_NEWEST = select(func.max(run.c.id))
_EXPERIMENTS, _HEADS, _SECONDS = 10_000, 8, 20.0

Order = list[tuple[Identifier, bool]]
_Found = Sequence[Any]
"""A run's key, uuid and version, and its place in the order: rank and value for each term."""
_PLACE = 3
"""Where that place begins."""


class _Question(Struct, frozen=True, eq=False):
    """`size` runs of these experiments that match all parts of a filter, behind a place in an order."""

    scope: ColumnElement[bool]
    parts: list[Node]
    order: Order
    after: list[Mark] | None
    size: int


class _Start(Struct, frozen=True, eq=False):
    """Where a query begins: the first tables of its FROM, and what must hold."""

    tables: FromClause
    where: ColumnElement[bool]


class _Term(Struct, frozen=True, eq=False):
    """One term of the order. rank is 0 for a value, 1 for NaN, 2 for nothing, which come in this order in either direction, and
    None where there always is a value. index: what the index has of it, if that may be less. joined: the row that the value is
    taken from, and how to find it."""

    value: ColumnElement[Any]
    ascending: bool
    rank: ColumnElement[int] | None = None
    index: ColumnElement[Any] | None = None
    joined: tuple[FromClause, ColumnElement[bool]] | None = None

    def order(self) -> list[ColumnElement[Any]]:
        terms = [self.value] if self.index is None else [self.index, self.value]
        directed: list[ColumnElement[Any]] = [term.asc() if self.ascending else term.desc() for term in terms]
        return directed if self.rank is None else [self.rank, *directed]

    def columns(self) -> list[ColumnElement[Any]]:
        return [literal_column("0") if self.rank is None else self.rank, self.value]

    def behind(self, mark: Mark) -> ColumnElement[bool]:
        rank, value = mark
        later: ColumnElement[bool] = false() if self.rank is None else self.rank > literal_column(str(rank))
        return later if value is None else or_(later, self.value > value if self.ascending else self.value < value)

    def level(self, mark: Mark) -> ColumnElement[bool]:
        rank, value = mark
        if value is not None:
            return self.value == value
        return false() if self.rank is None else self.rank == literal_column(str(rank))

    def onwards(self, mark: Mark) -> ColumnElement[bool]:
        """Behind or level, as a range that an index understands."""
        column, value = self.value if self.index is None else self.index, mark[1]
        return true() if self.rank is not None else column >= value if self.ascending else column <= value


def search(conn: Connection, request: wire.Search) -> wire.Found:
    limit = page.size(request.max_results, 50_000)
    scope, parts = _scope(request), filters.parse(request.filter, NAMES)
    order = _complete(filters.order(request.order_by, NAMES))
    name = _name(request)
    after = page.place(request.page_token, name, [_is_number(identifier) for identifier, _ in order])
    if not request.experiment_ids:
        return wire.Found()
    with database.in_time(conn, _SECONDS):
        found = _page(conn, _Question(scope, parts, order, after, limit + 1))
    more = page.mark(name, _place(found[limit - 1])) if len(found) > limit else ""
    shown = found[:limit]
    runs: Any = bodies.load(conn, [each[0] for each in shown], [(each[1], each[2]) for each in shown])  # Written as JSON already.
    return wire.Found(runs, more)


def _place(found: _Found) -> list[Mark]:
    return list(zip(found[_PLACE::2], found[_PLACE + 1 :: 2], strict=True))


def count(conn: Connection, request: wire.Count) -> wire.Total:
    scope, parts = _scope(request), filters.parse(request.filter, NAMES)
    if not request.experiment_ids:
        return wire.Total(0)
    with database.in_time(conn, _SECONDS):
        start = _narrow(conn, scope, parts, 10_000) or _all(scope, parts)
        return wire.Total(conn.execute(select(func.count()).select_from(start.tables).where(start.where)).scalar_one())


def _scope(request: wire.Search | wire.Count) -> ColumnElement[bool]:
    """The runs of these experiments that are active, deleted, or both."""
    ids = {experiments.number(each) for each in request.experiment_ids}
    if len(ids) > _EXPERIMENTS:
        raise Invalid(f"A search takes at most {_EXPERIMENTS} experiments, not {len(ids)}.", "Ask in several searches.")
    stage = {"ACTIVE_ONLY": "active", "DELETED_ONLY": "deleted"}.get(request.run_view_type)
    return and_(run.c.experiment.in_(sorted(ids)), true() if stage is None else run.c.lifecycle_stage == stage)


def _name(request: wire.Search) -> str:
    """Of the search that a token belongs to; the size of its pages may change."""
    parts = (sorted(request.experiment_ids), request.filter, request.run_view_type, request.order_by)
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _complete(order: Order) -> Order:
    """Newest first among equals, and then by id, so that every run has a place of its own."""
    return [*order, *(tie for tie in _TIES if tie[0] not in [identifier for identifier, _ in order])]


def _is_number(identifier: Identifier) -> bool:
    return identifier.kind == "metrics" or (identifier.kind == "attributes" and identifier.key in NAMES.numbers)


def _fields(key: ColumnElement[int]) -> fields.Fields:
    """What identifiers mean for the run with this key: run.id, or what is the same and known earlier in the query."""

    def field(identifier: Identifier) -> Field:
        if identifier.kind == "attributes":
            return _ATTRIBUTES[identifier.key]
        if identifier.kind == "datasets":
            column = dataset.c[identifier.key]
            return Field(column, (dataset.c.run == key, column.is_not(None)))
        table = _TABLES[identifier.kind]
        value = table.c[_METRIC[identifier.of]]
        return Field(value, (table.c.run == key, table.c.key == identifier.key), has_nan=table is latest)

    return field


def _page(conn: Connection, asked: _Question) -> Sequence[_Found]:
    first = asked.order[0][0]
    can_walk = first.kind != "attributes" and first.of == "last"
    start = _narrow(conn, asked.scope, asked.parts, asked.size) if can_walk or asked.parts else None
    if start is None and can_walk:
        return list(_walk(conn, asked))
    return _rows(conn, start or _all(asked.scope, asked.parts), _terms(asked.order), asked.after, asked.size)


def _all(scope: ColumnElement[bool], parts: Sequence[Node]) -> _Start:
    return _Start(run, and_(scope, fields.condition(parts, _fields(run.c.id))))


def _narrow(conn: Connection, scope: ColumnElement[bool], parts: list[Node], size: int) -> _Start | None:
    """The start with the fewest runs to look at, if there are few.

    Walking until a page is full takes about size * all / few steps, if what is looked for is spread evenly; looking at the few
    takes as many steps as there are. The two are equal where few is the root of size * all.
    """
    few = isqrt(size * (conn.execute(_NEWEST).scalar() or 0))
    covered = [(part, cover) for part in parts if (cover := _cover(part))][:_HEADS]
    heads = [select(run.c.id).where(scope), *(union_all(*cover) if len(cover) > 1 else cover[0] for _, cover in covered)]
    counts = conn.execute(select(*(_count(head, few + 1) for head in heads))).one()
    least = min(range(len(counts)), key=counts.__getitem__)
    if counts[least] > few:
        return None
    return _all(scope, parts) if least == 0 else _from(scope, parts, *covered[least - 1])


def _count(head: Select[Any] | CompoundSelect[Any], most: int) -> ColumnElement[int]:
    return select(func.count()).select_from(head.limit(most).subquery()).scalar_subquery()


def _from(scope: ColumnElement[bool], parts: list[Node], part: Node, cover: list[Select[Any]]) -> _Start:
    """From the runs of a cover. That of a single clause is all that it says."""
    head = (union(*cover) if len(cover) > 1 else cover[0]).subquery("head")
    key: ColumnElement[int] = head.c[0]
    rest = [other for other in parts if other is not part or not isinstance(part, Comparison)]
    return _Start(_Across(head, run, key == run.c.id), and_(scope, fields.condition(rest, _fields(key))))


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
    if left.kind in _TABLES:
        return left.of == "last" and clause.op != "IS"
    return left.key == "run_id" and clause.op in ("=", "IN")


def _keys(clause: Comparison) -> Select[Any]:
    """The keys of the runs that a clause means."""
    if clause.left.kind == "attributes":
        return select(_RUN.c.id).where(fields.test(Field(_RUN.c.uuid), clause))
    own = _alias(clause.left.kind, 0)
    return select(own.c.run).where(own.c.key == clause.left.key, *_held(own, clause))


def _held(own: FromClause, clause: Comparison) -> Iterator[ColumnElement[bool]]:
    """What a clause asks of a value."""
    if clause.value is None:
        return
    exact = fields.test(Field(own.c.value, has_nan=clause.left.kind == "metrics"), clause)
    if clause.left.kind == "metrics" or clause.op not in ("=", "IN"):
        yield exact
        return
    texts: list[Any] = clause.value if isinstance(clause.value, list) else [clause.value]
    yield Indexed(own.c.value).in_(texts)
    if any(len(text) >= BEGINNING for text in texts):
        yield exact


@cache
def _alias(kind: Kind, number: int) -> FromClause:
    """Number 0 is where a query starts; others are joined for an order's terms."""
    return _TABLES[kind].alias(f"{kind}_{number}")


def _term(number: int, identifier: Identifier, ascending: bool) -> _Term:
    if identifier.kind == "attributes":
        field = _ATTRIBUTES[identifier.key]
        rank = case((field.column.is_(None), literal_column("2")), else_=literal_column("0")) if field.may_miss else None
        return _Term(field.column, ascending, rank)
    own = _alias(identifier.kind, number)
    term = _plain(own, identifier, ascending)
    rank = case(
        (own.c.run.is_(None), literal_column("2")), (term.value.is_(None), literal_column("1")), else_=literal_column("0")
    )
    return _Term(term.value, ascending, rank, term.index, (own, and_(own.c.run == run.c.id, own.c.key == identifier.key)))


def _plain(own: FromClause, identifier: Identifier, ascending: bool) -> _Term:
    """Where there is a value."""
    if identifier.kind == "metrics":
        return _Term(own.c[_METRIC[identifier.of]], ascending)
    return _Term(own.c.value, ascending, index=Indexed(own.c.value))


def _terms(order: Order) -> list[_Term]:
    return [_term(number, *each) for number, each in enumerate(order, 1)]


def _walk(conn: Connection, asked: _Question) -> Iterator[_Found]:
    """First the runs with a value, then those with NaN, then those with nothing, each read only if the page has room."""
    size, after = asked.size, asked.after
    (first, ascending), others = asked.order[0], _terms(asked.order[1:])
    own = _alias(first.kind, 0)
    at = after[0][0] if after else 0
    for rank in (each for each in ((0, 1, 2) if first.kind == "metrics" else (0, 2)) if each >= at):
        terms = others if rank else [_plain(own, first, ascending), *others]
        behind = None if after is None or rank != at else after[1:] if rank else after
        found = _rows(conn, _ranked(asked, first, rank), terms, behind, size)
        yield from ((*each[:_PLACE], rank, None, *each[_PLACE:]) for each in found) if rank else found
        size -= len(found)
        if size <= 0:
            return


def _ranked(asked: _Question, first: Identifier, rank: int) -> _Start:
    """The runs of one rank: in the order of the index that has their values, or without any."""
    own = _alias(first.kind, 0)
    if rank == 2:
        everything = _all(asked.scope, asked.parts)
        return _Start(run, and_(everything.where, not_(exists().where(own.c.run == run.c.id, own.c.key == first.key))))
    held = own.c.value.is_(None) if rank else own.c.value.is_not(None)
    wanted = fields.condition(asked.parts, _fields(own.c.run))
    return _Start(_Across(own, run, own.c.run == run.c.id), and_(own.c.key == first.key, held, asked.scope, wanted))


def _rows(conn: Connection, start: _Start, terms: list[_Term], after: list[Mark] | None, size: int) -> Sequence[_Found]:
    tables = start.tables
    for term in terms:
        tables = tables.outerjoin(*term.joined) if term.joined else tables
    query: Select[Any] = select(run.c.id, run.c.uuid, run.c.changed, *(column for term in terms for column in term.columns()))
    query = query.select_from(tables).where(start.where).order_by(*(column for term in terms for column in term.order()))
    if after:
        query = query.where(*_behind(terms, after))
    return conn.execute(query.limit(size)).all()


def _behind(terms: list[_Term], after: list[Mark]) -> Iterator[ColumnElement[bool]]:
    """Behind the place `after`: behind it in the first term, or level with it there and behind it in the second, and so on."""
    behind: ColumnElement[bool] = false()
    for term, mark in zip(reversed(terms), reversed(after), strict=True):
        behind = or_(term.behind(mark), and_(term.level(mark), behind))
    yield behind
    yield terms[0].onwards(after[0])


class _Across(Join):
    """A join whose left side is read first. SQLite knows that as CROSS JOIN; PostgreSQL has counts of its own to judge by."""

    inherit_cache = True


@compiles(_Across, "sqlite")
def _cross(element: Any, compiler: Any, **options: Any) -> str:
    return str(compiler.visit_join(element, **options)).replace(" JOIN ", " CROSS JOIN ", 1)
