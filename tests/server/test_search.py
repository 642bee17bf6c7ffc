"""Searches through the server: totals, errors that point, and texts that are made to take long."""

from __future__ import annotations

import json
import time

import pytest

from noria.client.http import Server
from noria.errors import Invalid
from noria.types import Metric, Param
from noria.wire import experiments, runs
from tests.conftest import Running
from tests.server.test_bad_input import problem, send

SEARCH, COUNT = "/api/2.0/mlflow/runs/search", "/api/2.0/noria/runs/count"


@pytest.fixture(scope="module")
def experiment(server: Running) -> str:
    """Twelve runs: acc is 0 to 11, lr is one of three, two were deleted."""
    name = server.client.call(experiments.CREATE, experiments.Create("searched")).experiment_id
    for number in range(12):
        run = server.client.call(runs.CREATE, runs.Create(name, "ada", f"r{number}", 1000 + number)).run.info.run_id
        points = [Metric("acc", float(number), 1, 1), Metric("acc", -float(number), 0, 0)]
        server.client.call(runs.LOG_BATCH, runs.LogBatch(run, points, [Param("lr", f"0.{number % 3}")]))
        if number >= 10:
            server.client.call(runs.DELETE, runs.Get(run))
    return name


def names(client: Server, request: runs.Search) -> list[str]:
    return [run.info.run_name for run in client.call(runs.SEARCH, request).runs]


def test_a_filter_and_an_order_of_ours(server: Running, experiment: str) -> None:
    text = "(params.lr IN ('0.1', '0.2') OR min(metrics.acc) < -8.5) AND NOT metrics.acc = 4 AND duration IS NULL"
    request = runs.Search([experiment], text, order_by=["min(metrics.acc)"])
    assert names(server.client, request) == ["r9", "r8", "r7", "r5", "r2", "r1"]


def test_totals_are_exact(server: Running, experiment: str) -> None:
    def total(**query: str) -> int:
        return server.client.call(runs.COUNT, runs.Count([experiment, experiment], **query)).total  # type: ignore[arg-type]

    assert (total(), total(run_view_type="ALL"), total(run_view_type="DELETED_ONLY")) == (10, 12, 2)
    assert total(filter="params.lr = '0.1'") == 3 and total(filter="metrics.acc > 3.5 OR params.lr = '0.0'") == 8
    assert server.client.call(runs.COUNT, runs.Count()).total == 0


def test_pages_are_as_mlflow_has_them(server: Running, experiment: str) -> None:
    body = json.dumps({"experiment_ids": [experiment], "max_results": 5}).encode()
    first = json.loads(send(server, "POST", SEARCH, body)[1])
    assert set(first) == {"runs", "next_page_token"} and len(first["runs"]) == 5
    last = runs.Search([experiment], max_results=5, page_token=first["next_page_token"])
    assert names(server.client, last) == ["r4", "r3", "r2", "r1", "r0"]
    assert json.loads(send(server, "POST", SEARCH, b'{"experiment_ids": []}')[1]) == {}
    with pytest.raises(Invalid, match="Invalid page token"):
        names(server.client, runs.Search([experiment], page_token="eyJvZmZzZXQiOiA1fQ=="))
    with pytest.raises(Invalid, match="This page token belongs to another search"):
        names(server.client, runs.Search([experiment], "metrics.acc > 1", page_token=first["next_page_token"]))
    for wrong in (0, -1, 50_001):
        with pytest.raises(Invalid, match="max_results"):
            names(server.client, runs.Search([experiment], max_results=wrong))


@pytest.mark.parametrize("path", [SEARCH, COUNT])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metrics.acc >", "Invalid clause(s) in filter string: expected a number at column 14, found its end."),
        ("(" * 100_000, "more than 32 parentheses or NOTs inside of each other at column 33. Write it flatter."),
        (" AND ".join(["params.lr = '0.1'"] * 10_000), "it has more than 100 clauses. Use IN (…), or ask in several searches."),
        ("params.lr LIKE '" + "%a" * 5000 + "'", "the pattern at column 16 has more than 100 %. Use fewer."),
    ],
    ids=["clause", "parentheses", "clauses", "pattern"],
)
def test_a_wrong_or_a_monstrous_filter_is_refused_at_once(
    server: Running, experiment: str, path: str, text: str, says: str
) -> None:
    start = time.monotonic()
    body = json.dumps({"experiment_ids": [experiment], "filter": text}).encode()
    status, code, message = problem(server, "POST", path, body)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE") and message.endswith(says)
    assert time.monotonic() - start < 5


def test_what_is_just_allowed_is_answered(server: Running, experiment: str) -> None:
    texts = [
        "(" * 32 + "metrics.acc = 1" + ")" * 32,
        "NOT " * 32 + "metrics.acc = 1",
        " OR ".join(["metrics.acc = 1"] * 100),
        " AND ".join(["NOT params.lr LIKE '%%%9'"] * 99 + ["metrics.acc = 1"]),
        "params.lr IN ('0.1'" + ", 'x'" * 9_998 + ") AND metrics.acc = 1",
        "metrics.acc IN (1" + ", 1.5" * 9_998 + ") AND params.lr = '0.1'",
        "metrics.acc = 1 AND NOT params.lr LIKE '" + "%a" * 100 + "'",
    ]
    for text in texts:
        assert names(server.client, runs.Search([experiment], text, order_by=["params.lr"])) == ["r1"], text[:80]
        assert server.client.call(runs.COUNT, runs.Count([experiment], text)).total == 1
