"""MLflow's filter and order_by language, read into SQL conditions.

`clause (AND clause)*`; an identifier is `type.key`, a bare key is an attribute. Each resource says what its
identifiers mean with a `Resolver`; the grammar is here, once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, false, true

from noria.errors import Invalid


class Identifier(Struct, frozen=True):
    """`kind` is one of metrics, params, tags, datasets, attributes."""

    kind: str
    key: str


class Comparison(Struct, frozen=True):
    """One clause. `value` is text, a number, a list of texts for IN, or None for IS NULL; `op` is upper case."""

    left: Identifier
    op: str
    value: str | float | list[str] | None


Resolver = Callable[[Comparison], ColumnElement[bool]]

_KINDS = {
    **dict.fromkeys(("metric", "metrics"), "metrics"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "params"),
    **dict.fromkeys(("tag", "tags"), "tags"),
    **dict.fromkeys(("attr", "attribute", "attributes", "run"), "attributes"),
    **dict.fromkeys(("dataset", "datasets"), "datasets"),
}
_NUMERIC = {"=", "!=", ">", ">=", "<", "<="}
_TOKEN = re.compile(
    r"""(?:
      (?P<text>'(?:[^'\\]|\\.)*')
    | (?P<quoted>"(?:[^"\\]|\\.)*"|`[^`]*`)
    | (?P<op><=|>=|!=|=|<|>)
    | (?P<punct>[(),.])
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w]))
    | (?P<word>[\w/:-]+)
    )""",
    re.VERBOSE,
)


class _Tokens:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.list = text, 0, list(self._scan(text))

    @staticmethod
    def _scan(text: str) -> Any:
        position = 0
        while text[position:].strip():
            position += len(text[position:]) - len(text[position:].lstrip())
            match = _TOKEN.match(text, position)
            if not match:
                raise Invalid(
                    f"Invalid filter string: cannot read it from column {position + 1}: '{text[position : position + 40]}'."
                )
            position = match.end()
            kind = match.lastgroup or ""
            yield kind, match[kind], match.start(kind)

    def peek(self) -> tuple[str, str, int]:
        return self.list[self.at] if self.at < len(self.list) else ("end", "", len(self.text))

    def next(self) -> tuple[str, str, int]:
        token = self.peek()
        self.at += 1
        return token

    def word(self, *words: str) -> bool:
        """Take the next token if it is one of these words, whatever its case."""
        kind, text, _ = self.peek()
        if kind == "word" and text.upper() in words:
            self.at += 1
            return True
        return False

    def fail(self, expected: str) -> Invalid:
        kind, text, column = self.peek()
        found = "its end" if kind == "end" else f"'{text}'"
        return Invalid(f"Invalid clause(s) in filter string: expected {expected} at column {column + 1}, found {found}.")


def parse(text: str) -> list[Comparison]:
    """The clauses of a filter; Invalid with the column of the first thing that is wrong."""
    tokens = _Tokens(text)
    clauses: list[Comparison] = []
    while tokens.peek()[0] != "end":
        if clauses and not tokens.word("AND"):
            raise tokens.fail("AND")
        clauses.append(_clause(tokens))
    return clauses


def _clause(tokens: _Tokens) -> Comparison:
    left = _identifier(tokens)
    if tokens.word("IS"):
        op = "IS NOT" if tokens.word("NOT") else "IS"
        if not tokens.word("NULL"):
            raise tokens.fail("NULL")
        return Comparison(left, op, None)
    if tokens.word("NOT"):
        if not tokens.word("IN"):
            raise tokens.fail("IN")
        return Comparison(left, "NOT IN", _list(tokens))
    if tokens.word("IN"):
        return Comparison(left, "IN", _list(tokens))
    kind, op, _ = tokens.peek()
    if kind == "op" or (kind == "word" and op.upper() in ("LIKE", "ILIKE")):
        tokens.next()
        return Comparison(left, op.upper(), _value(tokens))
    raise tokens.fail("a comparison such as =, !=, >, LIKE or IN")


def _identifier(tokens: _Tokens) -> Identifier:
    kind, text, _ = tokens.peek()
    if kind not in ("word", "quoted"):
        raise tokens.fail("a name such as metrics.loss")
    tokens.next()
    if kind == "word" and tokens.peek()[1] == ".":
        tokens.next()
        if text.lower() not in _KINDS:
            tokens.at -= 2
            raise tokens.fail(f"one of {', '.join(sorted(set(_KINDS.values())))} before the dot")
        return Identifier(_KINDS[text.lower()], _key(tokens))
    return Identifier("attributes", _bare(text))


def _key(tokens: _Tokens) -> str:
    """A key: quoted, or words with dots in between, as in `tags.mlflow.runName`."""
    parts = []
    while True:
        kind, text, _ = tokens.peek()
        if kind not in ("word", "quoted", "number"):
            raise tokens.fail("a key")
        tokens.next()
        parts.append(_bare(text))
        if tokens.peek()[1] != ".":
            return ".".join(parts)
        tokens.next()


def _bare(text: str) -> str:
    return text[1:-1] if text[:1] in "'\"`" else text


def _value(tokens: _Tokens) -> str | float:
    kind, text, _ = tokens.next()
    if kind == "number":
        return float(text)
    if kind in ("text", "quoted"):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    tokens.at -= 1
    raise tokens.fail("a quoted text or a number")


def _list(tokens: _Tokens) -> list[str]:
    if tokens.next()[1] != "(":
        tokens.at -= 1
        raise tokens.fail("'('")
    values = [str(_value(tokens))]
    while tokens.peek()[1] == ",":
        tokens.next()
        values.append(str(_value(tokens)))
    if tokens.next()[1] != ")":
        tokens.at -= 1
        raise tokens.fail("')'")
    return values


def where(text: str, resolve: Resolver) -> ColumnElement[bool]:
    """The condition of a whole filter; true for an empty one."""
    return and_(true(), *(resolve(clause) for clause in parse(text)))


def order(entries: Sequence[str]) -> list[tuple[Identifier, bool]]:
    """order_by entries as (identifier, ascending)."""
    result: list[tuple[Identifier, bool]] = []
    for entry in entries:
        tokens = _Tokens(entry)
        identifier = _identifier(tokens)
        ascending = not tokens.word("DESC")
        if ascending:
            tokens.word("ASC")
        if tokens.peek()[0] != "end":
            raise Invalid(f"Invalid order_by clause '{entry}'.", "Write for example 'metrics.loss ASC'.")
        if identifier in [seen for seen, _ in result]:
            raise Invalid(f"`order_by` contains duplicate fields: {list(entries)}.")
        result.append((identifier, ascending))
    return result


def text_condition(column: ColumnElement[Any], clause: Comparison) -> ColumnElement[bool]:
    """A comparison of text: =, !=, LIKE, ILIKE, IN, NOT IN."""
    op, value = clause.op, clause.value
    if op in ("IN", "NOT IN") and isinstance(value, list):
        return column.in_(value) if op == "IN" else column.not_in(value)
    if not isinstance(value, str):
        raise Invalid(f"Expected a quoted string value for '{clause.left.key}', found {value!r}.", "Put it in single quotes.")
    if op == "=":
        return column == value
    if op == "!=":
        return column != value
    if op == "LIKE":
        return column.op("GLOB")(_glob(value))
    if op == "ILIKE":
        return column.ilike(value)
    raise Invalid(f"Invalid comparator '{op}' for the text '{clause.left.key}'.", "Use one of =, !=, LIKE, ILIKE, IN.")


def _glob(pattern: str) -> str:
    """LIKE with SQLite's GLOB, which minds the case."""
    return "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(char, char) for char in pattern)


def number_condition(column: ColumnElement[Any], clause: Comparison) -> ColumnElement[bool]:
    """A comparison of numbers."""
    value = clause.value
    if clause.op not in _NUMERIC:
        raise Invalid(
            f"Invalid comparator '{clause.op}' for the number '{clause.left.key}'.", f"Use one of {', '.join(sorted(_NUMERIC))}."
        )
    if not isinstance(value, float):
        raise Invalid(f"Expected numeric value type for metric. Found {value!r}.", "Write a number without quotes.")
    operator = {"=": "__eq__", "!=": "__ne__", ">": "__gt__", ">=": "__ge__", "<": "__lt__", "<=": "__le__"}[clause.op]
    condition: ColumnElement[bool] = getattr(column, operator)(value)
    return condition if value == value else false()


def unknown(identifier: Identifier, names: Sequence[str]) -> Invalid:
    return Invalid(f"Invalid attribute key '{identifier.key}' specified.", f"Valid keys are: {', '.join(names)}.")
