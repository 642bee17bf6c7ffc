"""The filter language: what is understood, where it is wrong, and that no text takes long or breaks anything."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.errors import Invalid
from noria.store import filters
from noria.store.filters import AllOf, AnyOf, Comparison, Identifier, Node, Not
from noria.store.run_search import NAMES
from tests.store.filter_text import NODES, written


def parse(text: str) -> list[Node]:
    return filters.parse(text, NAMES)


def metric(key: str, op: str, value: Any, of: Any = "last") -> Comparison:
    return Comparison(Identifier("metrics", key, of), op, value)


def param(key: str, op: str, value: Any) -> Comparison:
    return Comparison(Identifier("params", key), op, value)


def attribute(key: str, op: str, value: Any) -> Comparison:
    return Comparison(Identifier("attributes", key), op, value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("  \n ", []),
        ("metrics.loss < 0.5", [metric("loss", "<", 0.5)]),
        ("metric.`val loss` >= -1e-3", [metric("val loss", ">=", -0.001)]),
        ("metrics.a.b.c = 1", [metric("a.b.c", "=", 1)]),
        ("metrics.1.5x=1", [metric("1.5x", "=", 1)]),
        ("metrics.1 > .5 AND metrics.`a`<=-.5e1", [metric("1", ">", 0.5), metric("a", "<=", -5.0)]),
        ("metrics.loss = NaN AND metrics.x < -inf", [metric("loss", "=", math.nan), metric("x", "<", -math.inf)]),
        ("min(metrics.loss) < 1 and FIRST(metric.`a b`) > 2", [metric("loss", "<", 1, "min"), metric("a b", ">", 2, "first")]),
        ("params.lr = '0.1' AND params.\"a b\" LIKE '%x_'", [param("lr", "=", "0.1"), param("a b", "LIKE", "%x_")]),
        ("parameters.x != \"r\"", [param("x", "!=", "r")]),
        ("tags.mlflow.runName ilike 'r'", [Comparison(Identifier("tags", "mlflow.runName"), "ILIKE", "r")]),
        ("datasets.context in ('train')", [Comparison(Identifier("datasets", "context"), "IN", ["train"])]),
        ("run_id IN ('a', \"b\",)", [attribute("run_id", "IN", ["a", "b"])]),
        ("metrics.x NOT IN (1, 2.5)", [metric("x", "NOT IN", [1, 2.5])]),
        ("attr.`Run name` = 'x'", [attribute("run_name", "=", "x")]),
        ("created > 5 and run.end_time is null", [attribute("start_time", ">", 5), attribute("end_time", "IS", None)]),
        ("params.x IS NOT NULL and params.y is null", [param("x", "IS NOT", None), param("y", "IS", None)]),
        ("duration > 3600s and duration < 1.5h or duration = 7",
         [AnyOf([AllOf([attribute("duration", ">", 3_600_000), attribute("duration", "<", 5_400_000.0)]), attribute("duration", "=", 7)])]),
        ("metrics.a=1 AND (metrics.b=2 OR NOT metrics.c=3)", [metric("a", "=", 1), AnyOf([metric("b", "=", 2), Not(metric("c", "=", 3))])]),
        ("((metrics.a=1) AND (metrics.b=2))", [metric("a", "=", 1), metric("b", "=", 2)]),
        # A text's own quote, twice or behind a backslash; any other backslash is itself, the last one too.
        (r"params.x = 'it\'s'", [param("x", "=", "it's")]),
        ("params.x = 'it''s'", [param("x", "=", "it's")]),
        (r"params.x = 'C:\new\'", [param("x", "=", "C:\\new\\")]),
        (r'params.x = "a''b"', [param("x", "=", "ab")]),
    ],
)  # fmt: skip
def test_what_is_understood(text: str, parts: list[Node]) -> None:
    assert repr(parse(text)) == repr(parts)  # NaN is not equal to itself.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metrics.loss <", "expected a number at column 15, found its end."),
        ("metrics.loss 0.5", "expected a comparison such as =, !=, >, LIKE or IN at column 14, found '0.5'."),
        ("metrics.a = 1 metrics.b = 2", "expected AND or OR at column 15, found 'metrics'."),
        (
            "weird.loss = 1",
            "Invalid entity type 'weird' at column 1. Valid are: metrics, params, tags, datasets, attributes.",
        ),
        ("run_id IN", "expected '(' at column 10, found its end."),
        ("run_id IN (", "Invalid clause(s) in filter string: expected a quoted text at column 12, found its end."),
        ("run_id IN ()", "expected a non-empty list of string values, but got empty list at column 12."),
        ("run_id IN (,)", "expected a non-empty list of string values, but got ill-formed list at column 12."),
        ("run_id IN ('a',,'b')", "expected a non-empty list of string values, but got ill-formed list at column 16."),
        ("metrics.a IN (1,,2)", "expected a non-empty list of numbers, but got ill-formed list at column 17."),
        ("run_id IN ('a', 5)", "but got different type in list: '5' at column 17. Put it in single quotes."),
        ("run_id IN ('a' 'b')", "expected ',' or ')' at column 16, found ''b''."),
        ("metrics.a = 1 AND", "expected a name such as metrics.loss at column 18, found its end."),
        ("params.a = 'open", "Expected a quoted string value for param 'a' at column 12,"),
        ("params.a = `b`", "Expected a quoted string value for param 'a' at column 12, found '`b`'."),
        ("params.a > 'b'", "invalid comparator '>' at column 10 for the text 'a'. Use =, !=, LIKE, ILIKE, IN or IS NULL."),
        ("metrics.a LIKE 'b'", "invalid comparator 'LIKE' at column 11 for the number 'a'."),
        ("metrics.a < NaN", "nothing is less or more than NaN, at column 13."),
        ("metrics.a < 5s", "Expected numeric value type for metric 'a' at column 13, found '5s'."),
        ("(metrics.a = 1", "expected AND, OR or ')' at column 15, found its end."),
        ("metrics.a = 1)", "expected AND or OR at column 14, found ')'."),
        ("status = FINISHED", "used for string value FINISHED at column 10. Put it in single quotes."),
        ("foo = 'a'", "Invalid attribute key 'foo' specified at column 1. Valid keys are: run_id,"),
        ("datasets.size = 'a'", "Invalid dataset key 'size' specified at column 10. Valid keys are: name, digest, context."),
        ("first(params.x) = 'a'", "expected a metric such as metrics.loss in the parentheses at column 7, found 'params'."),
        ("min(max(metrics.x)) = 1", "expected a metric such as metrics.loss in the parentheses at column 5, found 'max'."),
        ("params.x is not 5", "expected NULL at column 17, found '5'."),
        ("params.x not like 'a'", "expected IN at column 14, found 'like'."),
        ("metrics. = 1", "expected a key at column 10, found '='."),
        ("params.x = 'a\0b'", "the character at column 14 is in no text."),
        ("params.x = '\ud800'", "the character at column 13 is in no text."),
    ],
)
def test_errors_point_at_the_column_and_say_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse(text)
    assert says in raised.value.message


def test_the_examples_of_the_documents_are_understood() -> None:
    text = (Path(__file__).parents[2] / "docs" / "searching.md").read_text()
    blocks = {kind: body.splitlines() for kind, body in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)}
    assert all(parse(line) for line in blocks["filter"]) and len(filters.order(blocks["order"], NAMES)) == 4
    told = {f"`{name}`" for name in (*NAMES.texts, *NAMES.numbers)}
    assert told <= set(re.findall(r"`\w+`", text))


def test_order_by() -> None:
    entries = ["metrics.loss DESC", "start_time", "min(metrics.`a b`) asc", "duration"]
    assert filters.order(entries, NAMES) == [
        (Identifier("metrics", "loss"), False),
        (Identifier("attributes", "start_time"), True),
        (Identifier("metrics", "a b", "min"), True),
        (Identifier("attributes", "duration"), True),
    ]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (
            ["metrics.loss SIDEWAYS"],
            "Invalid order_by clause 'metrics.loss SIDEWAYS': expected ASC, DESC or its end at column 14",
        ),
        (["start_time ASC", "created DESC"], "`order_by` contains duplicate fields: ['start_time ASC', 'created DESC']."),
        (["nothing"], "Invalid order by key 'nothing' specified at column 1. Valid keys are: run_id,"),
        (["datasets.name"], "expected something that a run has one of, not a data set, at column 1, found 'datasets'."),
        ([""], "expected a name such as metrics.loss at column 1, found its end."),
        ([f"metrics.m{index}" for index in range(17)], "`order_by` has 17 entries; the limit is 16. Leave the last ones out."),
    ],
)
def test_errors_in_order_by(entries: list[str], says: str) -> None:
    with pytest.raises(Invalid) as raised:
        filters.order(entries, NAMES)
    assert says in raised.value.message


@given(st.lists(NODES, max_size=4))
def test_what_is_written_is_read_back(parts: list[Node]) -> None:
    text = " AND ".join(f"({written(part)})" for part in parts)
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, AllOf) else [part])]
    assert parse(text) == flat


WORDS = st.sampled_from([
    "metrics.", "params.x", "tags.`a b`", "run_id", "duration", "min(", "(", ")", ",", "=", "!=", "<", "LIKE", "IN", "NOT", "IS", "NULL",
    "AND", "OR", "'a'", '"b"', "1", "2h", "-1e5", "nan", ".", "'", "\\'", "`", "\n", "é", "\0", "\ud800", "first", "datasets.name",
])  # fmt: skip


@given(st.one_of(st.text(), st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS, max_size=12).map("".join)))
@example("min")
@example("(")
@example("NOT")
@example("metrics.x IN (" + "9" * 400 + ")")
def test_any_text_is_understood_or_refused(text: str) -> None:
    for read in (parse, lambda text: filters.order([text], NAMES)):
        try:
            read(text)  # type: ignore[operator]
        except Invalid as error:
            assert error.message.count("\n") <= text.count("\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("(" * 100_000, "more than 32 parentheses or NOTs inside of each other at column 33"),
        ("(" * 100_000 + "metrics.a = 1" + ")" * 100_000, "more than 32 parentheses"),
        ("NOT " * 100_000, "more than 32 parentheses or NOTs"),
        (" AND ".join(["params.a = 'b'"] * 10_000), "it has more than 100 clauses"),
        (" OR ".join(["params.a = 'b'"] * 10_000), "it has more than 100 clauses"),
        ("params.a IN (" + "'a'," * 100_000 + "'a')", "it has more than 10000 values"),
        ("params.a LIKE '" + "%a" * 10_000 + "'", "the pattern at column 15 has more than 100 %"),
        ("params.a = '" + "a" * 1_000_000 + "'", "it has 1000013 characters. The limit is 500000"),
        ("'" + "\\'" * 200_000, "expected a name"),
        ("`" * 400_001, "Invalid attribute key"),
        ("metrics." + "a." * 200_000, "expected a key"),
    ],
    ids=lambda value: value[:20],
)
def test_bombs_are_refused_at_once(text: str, says: str) -> None:
    start = time.process_time()
    with pytest.raises(Invalid) as raised:
        parse(text)
    assert says in raised.value.message and len(raised.value.message) < 400
    assert time.process_time() - start < 1
