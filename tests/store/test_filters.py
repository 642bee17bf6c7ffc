"""The filter language."""

from __future__ import annotations

import pytest

from noria.errors import Invalid
from noria.store.filters import Comparison, Identifier, order, parse


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("metrics.loss < 0.5", [Comparison(Identifier("metrics", "loss"), "<", 0.5)]),
        ("metric.`val loss` >= -1e-3", [Comparison(Identifier("metrics", "val loss"), ">=", -0.001)]),
        ("params.lr = '0.1' AND tags.\"a b\" LIKE '%x_'",
         [Comparison(Identifier("params", "lr"), "=", "0.1"), Comparison(Identifier("tags", "a b"), "LIKE", "%x_")]),
        ("tags.mlflow.runName != \"r\"", [Comparison(Identifier("tags", "mlflow.runName"), "!=", "r")]),
        ("run_id IN ('a', 'b')", [Comparison(Identifier("attributes", "run_id"), "IN", ["a", "b"])]),
        ("attributes.run_id not in ('a')", [Comparison(Identifier("attributes", "run_id"), "NOT IN", ["a"])]),
        ("params.x IS NOT NULL and params.y is null",
         [Comparison(Identifier("params", "x"), "IS NOT", None), Comparison(Identifier("params", "y"), "IS", None)]),
        (r"params.x = 'it\'s'", [Comparison(Identifier("params", "x"), "=", "it's")]),
    ],
)  # fmt: skip
def test_what_is_understood(text: str, clauses: list[Comparison]) -> None:
    assert parse(text) == clauses


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metrics.loss <", "a quoted text or a number at column 15, found its end"),
        ("metrics.loss 0.5", "a comparison such as"),
        ("a = 1 OR b = 2", "expected AND at column 7, found 'OR'"),
        ("weird.loss = 1", "before the dot at column 1"),
        ("run_id IN ()", "a quoted text or a number at column 12"),
        ("a = 1 AND", "a name such as metrics.loss at column 10"),
        ("a = 'open", "cannot read it from column 5"),
    ],
)
def test_errors_point_at_the_column(text: str, says: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse(text)
    assert says in raised.value.message


def test_order_by() -> None:
    assert order(["metrics.loss DESC", "start_time"]) == [
        (Identifier("metrics", "loss"), False),
        (Identifier("attributes", "start_time"), True),
    ]
    with pytest.raises(Invalid):
        order(["metrics.loss SIDEWAYS"])
    with pytest.raises(Invalid):
        order(["start_time ASC", "start_time DESC"])
