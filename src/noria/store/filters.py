"""MLflow's filter and order_by language and what Noria adds to it, read from text into a tree.

    filter      any AND/OR/NOT of clauses, with parentheses; AND binds tighter than OR
    clause      identifier =|!=|>|>=|<|<=|LIKE|ILIKE value, identifier [NOT] IN (value, …), identifier IS [NOT] NULL
    identifier  kind.key, a bare key for an attribute, or first|last|min|max(metrics.key)
    value       'text', "text", a number, NaN or inf for a metric, or a span of time such as 90s or 2h for a duration

What a resource's identifiers are called, `Names` says; what they mean in SQL is in fields.py. Texts may come from anybody: the
sizes below bound the work, and nothing here recurses deeper than NESTING.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from noria.errors import Invalid

LENGTH, NESTING, CLAUSES, VALUES, WILDCARDS, ORDERS = 500_000, 32, 100, 10_000, 100, 16

Kind = Literal["metrics", "params", "tags", "datasets", "attributes"]
Of = Literal["last", "first", "min", "max"]


class Identifier(Struct, frozen=True):
    """`of` says which of a metric's values is meant."""

    kind: Kind
    key: str
    of: Of = "last"


class Comparison(Struct, frozen=True):
    """`value` is None for IS NULL and IS NOT NULL, which are the ops IS and IS NOT; a list for IN and NOT IN."""

    left: Identifier
    op: str
    value: str | int | float | list[str] | list[int | float] | None


class AllOf(Struct, frozen=True):
    parts: list[Node]


class AnyOf(Struct, frozen=True):
    parts: list[Node]


class Not(Struct, frozen=True):
    part: Node


Node = Comparison | AllOf | AnyOf | Not


class Names(Struct, frozen=True):
    """The identifiers of one resource: its attributes that are texts and numbers, its other kinds, and other names of attributes.

    whole: nothing lacks one of these attributes, so that nobody asks whether one is missing but by mistake.
    """

    texts: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ("tags",)
    aliases: Mapping[str, str] = {}
    whole: bool = True


DATASET = ("name", "digest", "context")
_KINDS: dict[str, Kind] = {
    "metric": "metrics", "metrics": "metrics", "param": "params", "params": "params", "parameter": "params", "parameters": "params",
    "tag": "tags", "tags": "tags", "attr": "attributes", "attribute": "attributes", "attributes": "attributes", "run": "attributes",
    "dataset": "datasets", "datasets": "datasets",
}  # fmt: skip
_OF: dict[str, Of] = {"last": "last", "first": "first", "min": "min", "max": "max"}
_COMPARE = ("=", "!=", ">", ">=", "<", "<=")
_MATCH = ("=", "!=", "LIKE", "ILIKE")
_SPANS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:''|\\'|[^'])*')
    | (?P<quoted>"(?:""|\\"|[^"])*")
    | (?P<tick>`[^`]*`)
    | (?P<op><=|>=|!=|=|<|>)
    | (?P<number>[-+]?(?:\d+\.?\d*|(?<![\w"`])\.\d+)(?:[eE][-+]?\d+)?(?:ms|min|[smhd])?(?!\w))
    | (?P<punct>[(),.])
    | (?P<word>[\w/:-]+)
    | (?P<end>\Z)
    | (?P<other>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")
_NUMBER = re.compile(r"(.*?)(ms|min|[smhd])?")


class _Token(Struct, frozen=True):
    """`column` counts from 1."""

    kind: str
    text: str
    column: int

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "word" else ""

    def __str__(self) -> str:
        return "its end" if self.kind == "end" else f"'{self.text[:40]}'"


def _scan(text: str) -> Iterator[_Token]:
    """Tokens as they are asked for, so that a parser that gives up early has not read the rest."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        yield _Token(kind, match[kind], match.start(kind) + 1)


class _Parser:
    """Reads one filter, or one entry of order_by. `now` is the next token that nobody has taken."""

    def __init__(self, text: str, names: Names, complaint: str) -> None:
        self.names, self.complaint = names, complaint
        self.clauses = self.values = 0
        self._check(text)
        self.tokens = _scan(text)
        self.now = next(self.tokens)

    def _check(self, text: str) -> None:
        if len(text) > LENGTH:
            raise Invalid(f"{self.complaint}: it has {len(text)} characters.", f"The limit is {LENGTH}: split it up.")
        if bad := _NO_TEXT.search(text):
            raise Invalid(f"{self.complaint}: the character at column {bad.start() + 1} is in no text.", "Leave it out.")

    def take(self) -> _Token:
        taken, self.now = self.now, next(self.tokens, self.now)
        return taken

    def took(self, *texts: str) -> bool:
        """Take the next token if it is one of these words, whatever its case, or signs."""
        found = self.now.word in texts or (self.now.kind == "punct" and self.now.text in texts)
        if found:
            self.take()
        return found

    def fail(self, expected: str, token: _Token | None = None) -> Invalid:
        token = token or self.now
        return Invalid(f"{self.complaint}: expected {expected} at column {token.column}, found {token}.")

    def whole(self) -> list[Node]:
        """The parts of the filter's outermost AND."""
        if self.now.kind == "end":
            return []
        tree = self._any(0)
        if self.now.kind != "end":
            raise self.fail("AND or OR")
        return tree.parts if isinstance(tree, AllOf) else [tree]

    def _any(self, depth: int) -> Node:
        parts = [self._all(depth)]
        while self.took("OR"):
            parts.append(self._all(depth))
        return AnyOf(_flat(AnyOf, parts)) if len(parts) > 1 else parts[0]

    def _all(self, depth: int) -> Node:
        parts = [self._part(depth)]
        while self.took("AND"):
            parts.append(self._part(depth))
        return AllOf(_flat(AllOf, parts)) if len(parts) > 1 else parts[0]

    def _part(self, depth: int) -> Node:
        start = self.now
        if self.took("NOT"):
            return Not(self._part(self._deeper(depth, start)))
        if not self.took("("):
            return self._clause()
        inner = self._any(self._deeper(depth, start))
        if not self.took(")"):
            raise self.fail("AND, OR or ')'")
        return inner

    def _deeper(self, depth: int, token: _Token) -> int:
        if depth >= NESTING:
            raise Invalid(f"{self.complaint}: more than {NESTING} parentheses or NOTs inside of each other at column {token.column}.",
                          "Write it flatter.")  # fmt: skip
        return depth + 1

    def _clause(self) -> Comparison:
        left, start = self.identifier("filter"), self.now
        self.clauses += 1
        if self.clauses > CLAUSES:
            raise Invalid(f"{self.complaint}: it has more than {CLAUSES} clauses.", "Use IN (…), or ask in several searches.")
        if self.took("IS"):
            return self._missing(left, start)
        if self.took("NOT"):
            if self.now.word != "IN":
                raise self.fail("IN")
            self.take()
            return Comparison(left, "NOT IN", self._list(left))
        if self.took("IN"):
            return Comparison(left, "IN", self._list(left))
        return self._comparison(left, start)

    def _missing(self, left: Identifier, start: _Token) -> Comparison:
        """IS NULL or IS NOT NULL, behind its IS."""
        op = "IS NOT" if self.took("NOT") else "IS"
        if not self.took("NULL"):
            raise self.fail("NULL")
        if left.kind == "attributes" and self.names.whole:
            raise Invalid(f"{self.complaint}: IS NULL / IS NOT NULL is only supported for {', '.join(self.names.kinds)}, not for "
                          f"attribute '{left.key}' at column {start.column}, which is never missing.")  # fmt: skip
        return Comparison(left, op, None)

    def _comparison(self, left: Identifier, start: _Token) -> Comparison:
        op = start.text if start.kind == "op" else start.word
        known = _COMPARE if self._is_number(left) else _MATCH
        if op not in (*_COMPARE, *_MATCH):
            raise self.fail("a comparison such as =, !=, >, LIKE or IN")
        if op not in known:
            what = "number" if self._is_number(left) else "text"
            raise Invalid(f"{self.complaint}: invalid comparator '{op}' at column {start.column} for the {what} '{left.key}'.",
                          f"Use {', '.join(known)}, IN or IS NULL.")  # fmt: skip
        self.take()
        at, value = self.now, self._value(left)
        if isinstance(value, float) and math.isnan(value) and op not in ("=", "!="):
            raise Invalid(f"{self.complaint}: nothing is less or more than NaN, at column {at.column}.", "Use = or !=.")
        if "LIKE" in op and str(value).count("%") > WILDCARDS:
            raise Invalid(f"{self.complaint}: the pattern at column {at.column} has more than {WILDCARDS} %.", "Use fewer.")
        return Comparison(left, op, value)

    def _is_number(self, left: Identifier) -> bool:
        return left.kind == "metrics" or (left.kind == "attributes" and left.key in self.names.numbers)

    def identifier(self, purpose: Literal["filter", "order"]) -> Identifier:
        start = self.now
        if start.kind not in ("word", "quoted", "tick"):
            raise self.fail("a name such as metrics.loss")
        self.take()
        if start.kind == "word" and start.text.lower() in _OF and self.took("("):
            return self._value_of(_OF[start.text.lower()])
        if start.kind != "quoted" and self.took("."):
            kind = _KINDS.get(_bare(start).lower())
            if kind not in (*self.names.kinds, "attributes"):
                raise Invalid(f"{self.complaint}: Invalid entity type '{_bare(start)[:40]}' at column {start.column}.",
                              f"Valid are: {', '.join((*self.names.kinds, 'attributes'))}.")  # fmt: skip
            return self._known(kind, start, purpose)
        return self._attribute(_bare(start), start, purpose)

    def _value_of(self, of: Of) -> Identifier:
        start = self.now
        inner = self.identifier("filter")
        if inner.kind != "metrics" or inner.of != "last":
            raise self.fail("a metric such as metrics.loss in the parentheses", start)
        if not self.took(")"):
            raise self.fail("')'")
        return Identifier("metrics", inner.key, of)

    def _known(self, kind: Kind | None, start: _Token, purpose: Literal["filter", "order"]) -> Identifier:
        at, key = self.now, self._key()
        if kind is None or kind == "attributes":
            return self._attribute(key, at, purpose)
        if kind == "datasets" and (key not in DATASET or purpose == "order"):
            if purpose == "order":
                raise self.fail("something that a run has one of, not a data set,", start)
            raise Invalid(
                f"Invalid dataset key '{key[:40]}' specified at column {at.column}.", f"Valid keys are: {', '.join(DATASET)}."
            )
        return Identifier(kind, key)

    def _attribute(self, key: str, at: _Token, purpose: Literal["filter", "order"]) -> Identifier:
        key = self.names.aliases.get(key, key)
        valid = (*self.names.texts, *self.names.numbers)
        if key not in valid:
            what = "attribute" if purpose == "filter" else "order by"
            raise Invalid(
                f"{self.complaint}: Invalid {what} key '{key[:40]}' specified at column {at.column}.",
                f"Valid keys are: {', '.join(valid)}.",
            )
        return Identifier("attributes", key)

    def _key(self) -> str:
        """A key: quoted, or words with dots in between, as in `tags.mlflow.runName`."""
        if self.now.kind in ("quoted", "tick"):
            return _bare(self.take())
        parts = []
        while True:
            if self.now.kind not in ("word", "number"):
                raise self.fail("a key")
            parts.append(self.take().text)
            if not self.took("."):
                return ".".join(parts)

    def _list(self, left: Identifier) -> list[str] | list[int | float]:
        if not self.took("("):
            raise self.fail("'('")
        values = [self._item(left, "empty" if self.now.text == ")" else "ill-formed")]
        while self.took(","):
            if self.now.text == ")" and self.now.kind == "punct":
                break  # MLflow reads a list as Python does, where a last comma may stand.
            values.append(self._item(left, "ill-formed"))
        if not self.took(")"):
            raise self.fail("',' or ')'")
        return values  # type: ignore[return-value]

    def _item(self, left: Identifier, without: str) -> str | int | float:
        """A value in a list, which is `without` one if a sign stands there."""
        what, token = "numbers" if self._is_number(left) else "string values", self.now
        if token.kind == "punct":
            raise Invalid(f"While parsing a list in the query, expected a non-empty list of {what}, but got {without} list at column "
                          f"{token.column}.")  # fmt: skip
        if token.kind == "number" and not self._is_number(left):
            raise Invalid(f"While parsing a list in the query, expected string value, punctuation, or whitespace, but got different type "
                          f"in list: {token} at column {token.column}.", "Put it in single quotes.")  # fmt: skip
        return self._value(left)

    def _value(self, left: Identifier) -> str | int | float:
        self.values += 1
        if self.values > VALUES:
            raise Invalid(f"{self.complaint}: it has more than {VALUES} values.", "Ask in several searches.")
        token, is_number = self.now, self._is_number(left)
        if token.kind == "end":
            raise self.fail("a number" if is_number else "a quoted text")
        value = self._number(left, token) if is_number else _text(token)
        if value is None:
            if token.kind == "word" and not is_number:
                raise Invalid(f"Parameter value is either not quoted or unidentified quote types used for string value {token.text[:40]} "
                              f"at column {token.column}.", "Put it in single quotes.")  # fmt: skip
            expected = "Expected numeric value type for" if is_number else "Expected a quoted string value for"
            raise Invalid(f"{expected} {left.kind.rstrip('s')} '{left.key}' at column {token.column}, found {token}.")
        self.take()
        return value

    def _number(self, left: Identifier, token: _Token) -> int | float | None:
        if left.kind == "metrics" and token.word.lstrip("+-") in ("NAN", "INF", "INFINITY"):
            return float(token.text)
        match = _NUMBER.fullmatch(token.text) if token.kind == "number" else None
        if match is None or (match[2] and left.key != "duration"):
            return None
        digits = match[1]
        number = int(digits) if digits.lstrip("+-").isdigit() and len(digits) <= 18 else float(digits)
        return number * _SPANS[match[2] or "ms"]


def _flat(kind: type[AllOf] | type[AnyOf], parts: list[Node]) -> list[Node]:
    """(a AND b) AND c is a AND b AND c."""
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, kind) else [part])
    return flat


def _bare(token: _Token) -> str:
    return token.text[1:-1] if token.kind in ("quoted", "tick") else token.text


def _text(token: _Token) -> str | None:
    r"""What a quoted text says. Its own quote is written twice or behind a backslash; any other backslash is itself."""
    if token.kind not in ("text", "quoted"):
        return None
    quote = token.text[0]
    return token.text[1:-1].replace(f"\\{quote}", quote).replace(quote * 2, quote)


def parse(text: str, names: Names, complaint: str = "Invalid clause(s) in filter string") -> list[Node]:
    """The parts that must all be true; Invalid with the column of the first thing that is wrong, which begins with `complaint`."""
    return _Parser(text, names, complaint).whole()


def order(entries: Sequence[str], names: Names) -> list[tuple[Identifier, bool]]:
    """order_by entries as (identifier, ascending)."""
    if len(entries) > ORDERS:
        raise Invalid(f"`order_by` has {len(entries)} entries; the limit is {ORDERS}.", "Leave the last ones out.")
    result: list[tuple[Identifier, bool]] = []
    for entry in entries:
        parser = _Parser(entry, names, f"Invalid order_by clause '{' '.join(entry.split())[:80]}'")
        identifier = parser.identifier("order")
        ascending = not parser.took("DESC")
        if ascending:
            parser.took("ASC")
        if parser.now.kind != "end":
            raise parser.fail("ASC, DESC or its end")
        if identifier in [seen for seen, _ in result]:
            raise Invalid(f"`order_by` contains duplicate fields: {[each[:80] for each in entries]}.")
        result.append((identifier, ascending))
    return result


def identifiers(parts: Sequence[Node]) -> Iterator[Identifier]:
    """What a filter asks about."""
    for part in parts:
        if isinstance(part, Comparison):
            yield part.left
        else:
            yield from identifiers([part.part] if isinstance(part, Not) else part.parts)
