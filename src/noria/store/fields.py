"""What the identifiers of a filter are in the tables, and the filter's tree as an SQL condition.

A condition is true or false, never NULL: what is missing matches nothing but IS NULL, and NOT turns exactly that around.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Float,
    Text,
    and_,
    bindparam,
    exists,
    false,
    literal,
    not_,
    or_,
    select,
    true,
)  # fmt: skip
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from noria.store.filters import AllOf, Comparison, Identifier, Node, Not
from noria.store.schema import BEGINNING

_COMPARE: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}

_WHOLE = ("=", "!=", "IN", "NOT IN")


class Field(Struct, frozen=True, eq=False):
    """`column` is compared; `found` says in which rows of another table it lies, and is empty where it is the searched one.

    has_nan: NULL in it is NaN. may_miss: NULL in it is nothing. beginning: of a text, as much as an index has of it.
    """

    column: ColumnElement[Any]
    found: tuple[ColumnElement[bool], ...] = ()
    has_nan: bool = False
    may_miss: bool = False
    beginning: ColumnElement[str] | None = None

    def where(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        if self.found:
            return exists().where(*self.found, condition)
        return and_(self.column.is_not(None), condition) if self.may_miss else condition

    def missing(self) -> ColumnElement[bool]:
        if self.found:
            return not_(exists().where(*self.found))
        return self.column.is_(None) if self.may_miss else false()

    def order(self, *, ascending: bool) -> list[ColumnElement[Any]]:
        """As terms of ORDER BY; what is missing comes last."""
        value: Any = select(self.column).where(*self.found).scalar_subquery() if self.found else self.column
        missing = [value.is_(None)] if self.found or self.may_miss else []
        return [*missing, value.asc() if ascending else value.desc()]


Fields = Callable[[Identifier], Field]


def condition(parts: Sequence[Node], fields: Fields) -> ColumnElement[bool]:
    """All of these parts."""
    return and_(true(), *(_node(part, fields) for part in parts))


def _node(node: Node, fields: Fields) -> ColumnElement[bool]:
    if isinstance(node, Comparison):
        field = fields(node.left)
        if node.value is None:
            return field.missing() if node.op == "IS" else not_(field.missing())
        return field.where(test(field, node))
    if isinstance(node, Not):
        return not_(_node(node.part, fields))
    parts = [_node(part, fields) for part in node.parts]
    return and_(*parts) if isinstance(node, AllOf) else or_(*parts)


def test(field: Field, clause: Comparison) -> ColumnElement[bool]:
    """A comparison with the field's column, for a row that is there."""
    column, op, value = field.column, clause.op, clause.value
    if field.beginning is not None and op in _WHOLE and _is_short(value):
        column = field.beginning
    if isinstance(value, list):
        within = column.in_(bindparam(None, value, type_=_type(value), expanding=True, unique=True))
        return within if op == "IN" else _or_nan(field, not_(within))
    if isinstance(value, float) and math.isnan(value):
        return column.is_(None) if op == "=" else column.is_not(None)
    if op == "LIKE":
        return like(column, str(value))
    if op == "ILIKE":
        return column.ilike(_pattern(str(value), _LIKE), escape="\\")
    compared = compare(column, op, value)
    return _or_nan(field, compared) if op == "!=" else compared


def _is_short(value: object) -> bool:
    """Whether texts are equal to these if they begin so."""
    return all(isinstance(text, str) and len(text) < BEGINNING for text in (value if isinstance(value, list) else [value]))


def compare(column: ColumnElement[Any], op: str, value: object) -> ColumnElement[bool]:
    return _COMPARE[op](column, literal(value, _type([value])))


def _or_nan(field: Field, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """NaN is unequal to every number."""
    return or_(condition, field.column.is_(None)) if field.has_nan else condition


def _type(values: Sequence[object]) -> TypeEngine[Any]:
    """Of the values, not of the column: PostgreSQL would round 1.5 to compare it with integers."""
    if isinstance(values[0], str):
        return Text()
    return BigInteger() if all(isinstance(value, int) for value in values) else Float()


class _Like(FunctionElement[bool]):
    """LIKE that minds the case, which SQLite spells GLOB. The clauses are column, LIKE's pattern, GLOB's."""

    type = Boolean()
    inherit_cache = True


@compiles(_Like)
def _as_like(element: Any, compiler: Any, **options: Any) -> str:
    column, pattern, _ = element.clauses
    return str(compiler.process(column.like(pattern, escape="\\"), **options))


@compiles(_Like, "sqlite")
def _as_glob(element: Any, compiler: Any, **options: Any) -> str:
    column, _, pattern = element.clauses
    return f"({compiler.process(column.op('GLOB')(pattern), **options)})"


_LIKE = {"%": "%", "_": "_", "\\": "\\\\", r"\%": r"\%", r"\_": r"\_"}
_GLOB = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]", r"\%": "%", r"\_": "_"}


def like(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    r"""% is any text and _ any character; \% and \_ are themselves, and so is every other backslash."""
    return _Like(column, literal(_pattern(pattern, _LIKE), Text()), literal(_pattern(pattern, _GLOB), Text()))


def _pattern(pattern: str, words: dict[str, str]) -> str:
    return "".join(words.get(part, part) for part in re.findall(r"\\[%_]|.", re.sub("%+", "%", pattern), re.DOTALL))
