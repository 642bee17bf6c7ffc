"""Searches of 10,000 runs with 20 params, 10 metrics and 5 tags each, by a reader of HTTP that does not decode what comes back.

Both have the same runs, and the answers are held against each other: the same runs in the same order, with the same data. Noria
alone is asked for more runs as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import fill
from peers import MLFLOW, NORIA, SQLITE, Peer, Place, Wire, alone, has_mlflow, say, started
from table import Figures, Row, alternate

PATH = "/api/2.0/mlflow/runs/search"
SEEN = "all that was answered before is in it"
CELL = "{ms:,.1f} ms"
NEWEST = {"order_by": ["attributes.start_time DESC"], "max_results": 100}
TOP = {"order_by": ["metrics.metric_3 DESC"], "max_results": 100}
QUERIES: dict[str, tuple[dict[str, Any], str]] = {
    "filter and order, first 100": ({
        "filter": "metrics.metric_0 < 0.5 and params.param_2 = 'v7' and tags.tag_1 != 't3'",
        "order_by": ["metrics.metric_1 ASC"], "max_results": 100}, "goal: 20 times"),
    "newest 100": (NEWEST, ""),
    "top 100 by a metric": (TOP, ""),
    "a page of 1,000": ({"max_results": 1000}, "goal: 15 times"),
}  # fmt: skip


def rows(place: Place) -> list[Row]:
    return [*_beside(place, 1000 if place.quick else 10_000), *_large(place)]


def _beside(place: Place, count: int) -> list[Row]:
    fills = {NORIA: fill.noria, **({MLFLOW: fill.mlflow} if has_mlflow() else {})}
    with ExitStack() as stack:
        peers = [
            stack.enter_context(started(place, who, base, partial(fill_, count=count)))
            for base in place.bases()
            for who, fill_ in fills.items()
        ]
        known = {peer.name: peer for peer in peers}
        _same(peers, count)
        made = []
        for what, (query, goal) in QUERIES.items():
            turn = partial(_turn, known, query=query, times=1 if query["max_results"] == 1000 else 5)
            found = alternate(3 if place.quick else 6, known, turn, what)
            made.append(Row(f"{count:,} runs: {what}", SEEN, CELL, _warm(found), note=goal))
        found = alternate(1 if place.quick else 3, known, partial(_all, known), "paging through all")
        return [*made, Row(f"{count:,} runs: all, in pages of 1,000", SEEN, CELL, found, note="goal: 15 times")]


def _warm(found: dict[str, list[Figures]]) -> dict[str, list[Figures]]:
    """Without the first round, in which statements are prepared and pages are read."""
    return {name: turns[1:] for name, turns in found.items()}


def _turn(peers: dict[str, Peer], name: str, query: dict[str, Any], times: int) -> Figures:
    peer = peers[name]
    body = json.dumps({"experiment_ids": ["0"], **query}).encode()
    took = []
    with alone(peer, peers.values()), peer.wire() as wire:
        for _ in range(times):
            start = time.perf_counter()
            wire.call("POST", PATH, body)
            took.append((time.perf_counter() - start) * 1e3)
    return {"ms": median(took)}


def _all(peers: dict[str, Peer], name: str) -> Figures:
    peer = peers[name]
    with alone(peer, peers.values()), peer.wire() as wire:
        start = time.perf_counter()
        pages(wire, len)
        return {"ms": (time.perf_counter() - start) * 1e3}


def pages(wire: Wire, take: Callable[[bytes], object]) -> None:
    """All runs, a thousand at a time; the token is looked for in the end of a page."""
    token = ""
    while True:
        body = wire.call("POST", PATH, json.dumps({"experiment_ids": ["0"], "max_results": 1000, "page_token": token}).encode())
        take(body)
        at = body.rfind(b'"next_page_token"')
        if at < 0:
            return
        token = body[at:].split(b'"')[3].decode()


def _same(peers: list[Peer], count: int) -> None:
    """Whether all give the same runs in the same order for each query, and have all of them; or it would be no comparison."""
    for query, _ in QUERIES.values():
        answers = {}
        for peer in peers:
            with peer.wire() as wire:
                runs = wire.post(PATH, {"experiment_ids": ["0"], **query})["runs"]
                answers[peer.name] = [_data(run) for run in runs]
        first = answers[peers[0].name]
        for name, answer in answers.items():
            if answer != first or not answer:
                raise SystemExit(f"{name} and {peers[0].name} answer {query} differently: {_difference(answer, first)}")
    for peer in peers:
        sizes: list[int] = []
        with peer.wire() as wire:
            pages(wire, lambda body, sizes=sizes: sizes.append(len(json.loads(body)["runs"])))  # type: ignore[misc]
        if sum(sizes) != count:
            raise SystemExit(f"{peer.name} has {sum(sizes)} runs of {count}.")


def _data(run: dict[str, Any]) -> dict[str, Any]:
    return {"name": run["info"]["run_name"], **{kind: sorted((each["key"], each["value"]) for each in run["data"][kind])
                                                for kind in ("params", "metrics", "tags")}}  # fmt: skip


def _difference(answer: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    pairs = list(zip(answer, first, strict=False))
    return f"{len(answer)} and {len(first)} runs; " + next((f"{a} and {b}" for a, b in pairs if a != b), "")


def _large(place: Place) -> list[Row]:
    """Noria alone: more runs with each start."""
    home, had, made = place.home(), 0, []
    for count in (2_000, 4_000) if place.quick else (100_000, 200_000):
        say(f"fill up to {count:,} runs")
        fill.noria(home / "noria.db", count - had, had)
        had = count
        with started(place, NORIA, SQLITE, home=home) as peer:
            peers = {peer.name: peer}
            for what, query, goal in (("top 100 by a metric", TOP, "goal: 50 ms"), ("newest 100", NEWEST, "")):
                found = alternate(4, peers, partial(_turn, peers, query=query, times=5), what)
                made.append(Row(f"{count:,} runs: {what}", SEEN, CELL, _warm(found), note=goal))
    return made
