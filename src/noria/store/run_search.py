"""Searching of runs: which ones, in which order, a page at a time, and how many there are in all.

A page begins behind the last run of the page before: its token holds that run's place in the order, so a later page costs no
more than the first. Three ways lead to the same page, and which one is cheap depends on counts (`run_starts.choice`):
- only a few runs are in question, because of their experiments or of one clause: look at these alone, and sort them;
- many are, and the order begins with a metric, param or tag: walk along its index until the page is full, past all others where a clause has
  only some of them;
- many are, and it does not: look at all, by start time where that is the order, or sorting them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
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
)  # fmt: skip

from noria.errors import Invalid
from noria.store import bodies, database, experiments, filters, page
from noria.store.filters import Identifier, Node
from noria.store.page import Mark
from noria.store.run_starts import ALL, ATTRIBUTES, METRIC, Across, Choice, Start, alias, choice, met, start, unfilled, walked
from noria.store.schema import BEGINNING, run
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
    whole=False,
)
_TIES = ((Identifier("attributes", "start_time"), False), (Identifier("attributes", "run_id"), True))
_EXPERIMENTS = 10_000

Order = list[tuple[Identifier, bool]]
_Found = Sequence[Any]
"""A run's key, uuid and version, and its place in the order: rank and value for each term."""
_PLACE = 3
"""Where that place begins."""
_TEXTS = 1000
_texts: dict[tuple[str, str, str], database.Asked] = {}


class _Question(Struct, frozen=True, eq=False):
    """`size` runs of these experiments that match all parts of a filter, behind a place in an order. `name` is the same for all pages."""

    name: str
    scope: ColumnElement[bool]
    parts: list[Node]
    order: Order
    after: list[Mark] | None
    size: int


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
        column, value = self.value, mark[1]
        if self.index is not None and isinstance(value, str):
            column, value = self.index, value[:BEGINNING]
        return true() if self.rank is not None else column >= value if self.ascending else column <= value


def search(conn: Connection, request: wire.Search) -> wire.Found:
    limit = page.size(request.max_results, 50_000)
    scope, parts = _scope(request), filters.parse(request.filter, NAMES)
    order = _complete(filters.order(request.order_by, NAMES))
    name = _name(request)
    after = page.place(request.page_token, name, [_is_number(identifier) for identifier, _ in order])
    if not request.experiment_ids:
        return wire.Found()
    with database.in_time(conn):
        found = _page(conn, _Question(name, scope, parts, order, after, limit + 1))
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
    with database.in_time(conn):
        begin = start(scope, parts, choice(conn, _name(request), scope, parts, 10_000).at)
        return wire.Total(conn.execute(select(func.count()).select_from(begin.tables).where(begin.where)).scalar_one())


def _scope(request: wire.Search | wire.Count) -> ColumnElement[bool]:
    """The runs of these experiments that are active, deleted, or both."""
    ids = {experiments.number(each) for each in request.experiment_ids}
    if len(ids) > _EXPERIMENTS:
        raise Invalid(f"A search takes at most {_EXPERIMENTS} experiments, not {len(ids)}.", "Ask in several searches.")
    stage = {"ACTIVE_ONLY": "active", "DELETED_ONLY": "deleted"}.get(request.run_view_type)
    return and_(run.c.experiment.in_(sorted(ids)), true() if stage is None else run.c.lifecycle_stage == stage)


def _name(request: wire.Search | wire.Count) -> str:
    """Of the search that a token belongs to; the size of its pages may change."""
    order = request.order_by if isinstance(request, wire.Search) else None
    parts = (sorted(request.experiment_ids), request.filter, request.run_view_type, order)
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _complete(order: Order) -> Order:
    """Newest first among equals, and then by id, so that every run has a place of its own."""
    return [*order, *(tie for tie in _TIES if tie[0] not in [identifier for identifier, _ in order])]


def _is_number(identifier: Identifier) -> bool:
    return identifier.kind == "metrics" or (identifier.kind == "attributes" and identifier.key in NAMES.numbers)


def _page(conn: Connection, asked: _Question) -> Sequence[_Found]:
    first = asked.order[0][0]
    can_walk = first.kind != "attributes" and first.of == "last"
    chosen = choice(conn, asked.name, asked.scope, asked.parts, asked.size) if can_walk or asked.parts else Choice(ALL)
    at, place = chosen.at, (asked.after, asked.size)
    if chosen.walks and can_walk:
        found = list(_walk(conn, asked, at))
        if at is not None and len(found) < asked.size:
            unfilled(conn, asked.name, asked.size)
        return found
    return _found(conn, asked, (at, *place), lambda: _query(start(asked.scope, asked.parts, at), _terms(asked.order), *place))


def _found(conn: Connection, asked: _Question, about: tuple[object, ...], query: Callable[[], Select[Any]]) -> Sequence[_Found]:
    """What a query finds, whose text is kept under all that it depends on: another is found in the time that it takes to build one."""
    key = (conn.dialect.name, asked.name, repr(about))
    text = _texts.get(key)
    if text is None:
        if len(_texts) >= _TEXTS:
            _texts.clear()
        text = _texts[key] = database.written(conn, query())
    found: Sequence[_Found] = database.run(conn, *text).fetchall()
    return found


def _term(number: int, identifier: Identifier, ascending: bool) -> _Term:
    if identifier.kind == "attributes":
        field = ATTRIBUTES[identifier.key]
        rank = case((field.column.is_(None), literal_column("2")), else_=literal_column("0")) if field.may_miss else None
        return _Term(field.column, ascending, rank)
    own = alias(identifier.kind, number)
    term = _plain(own, identifier, ascending)
    rank = case(
        (own.c.run.is_(None), literal_column("2")), (term.value.is_(None), literal_column("1")), else_=literal_column("0")
    )
    return _Term(term.value, ascending, rank, term.index, (own, and_(own.c.run == run.c.id, own.c.key == identifier.key)))


def _plain(own: FromClause, identifier: Identifier, ascending: bool) -> _Term:
    """Where there is a value."""
    if identifier.kind == "metrics":
        return _Term(own.c[METRIC[identifier.of]], ascending)
    return _Term(own.c.value, ascending, index=own.c.beginning)


def _terms(order: Order) -> list[_Term]:
    return [_term(number, *each) for number, each in enumerate(order, 1)]


def _walk(conn: Connection, asked: _Question, at: int | None) -> Iterator[_Found]:
    """First the runs with a value, then those with NaN, then those with nothing, each read only if the page has room."""
    size, after, first = asked.size, asked.after, asked.order[0][0]
    begun = after[0][0] if after else 0
    for rank in (each for each in ((0, 1, 2) if first.kind == "metrics" else (0, 2)) if each >= begun):
        behind = None if after is None or rank != begun else after[1:] if rank else after
        found = _found(conn, asked, ("walk", at, rank, behind, size), partial(_step, asked, at, rank, behind, size))
        yield from ((*each[:_PLACE], rank, None, *each[_PLACE:]) for each in found) if rank else found
        size -= len(found)
        if size <= 0:
            return


def _step(asked: _Question, at: int | None, rank: int, behind: list[Mark] | None, size: int) -> Select[Any]:
    (first, ascending), others = asked.order[0], _terms(asked.order[1:])
    terms = others if rank else [_plain(walked(first.kind), first, ascending), *others]
    return _query(_ranked(asked, at, first, rank), terms, behind, size)


def _ranked(asked: _Question, at: int | None, first: Identifier, rank: int) -> Start:
    """The runs of one rank: in the order of the index that has their values, or without any."""
    own = walked(first.kind)
    if rank == 2:
        begin = start(asked.scope, asked.parts, at)
        without = not_(exists().where(own.c.run == run.c.id, own.c.key == first.key))
        return Start(begin.tables, and_(begin.where, without))
    held = own.c.value.is_(None) if rank else own.c.value.is_not(None)
    wanted = met(asked.parts, at, own.c.run)
    return Start(Across(own, run, own.c.run == run.c.id), and_(own.c.key == first.key, held, asked.scope, wanted))


def _query(begin: Start, terms: list[_Term], after: list[Mark] | None, size: int) -> Select[Any]:
    tables = begin.tables
    for term in terms:
        tables = tables.outerjoin(*term.joined) if term.joined else tables
    query: Select[Any] = select(run.c.id, run.c.uuid, run.c.changed, *(column for term in terms for column in term.columns()))
    query = query.select_from(tables).where(begin.where).order_by(*(column for term in terms for column in term.order()))
    if after:
        query = query.where(*_behind(terms, after))
    return query.limit(size)


def _behind(terms: list[_Term], after: list[Mark]) -> Iterator[ColumnElement[bool]]:
    """Behind the place `after`: behind it in the first term, or level with it there and behind it in the second, and so on."""
    behind: ColumnElement[bool] = false()
    for term, mark in zip(reversed(terms), reversed(after), strict=True):
        behind = or_(term.behind(mark), and_(term.level(mark), behind))
    yield behind
    yield terms[0].onwards(after[0])
