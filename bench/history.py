"""The history of one metric: a chart of it, all of it, and what it takes on the disk and in the server's memory.

The values are random doubles, which no compression makes smaller: 8 bytes a point are the least there is. Besides, Noria alone is
given what training gives: single-precision losses at times that waver. What comes back is held against what was given, bit by bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import fill
import numpy as np
from peers import MLFLOW, NORIA, SQLITE, Peer, Place, Wire, alone, family, growth, has_mlflow, settle, size, started
from table import Figures, Row, alternate

Point = tuple[float, int, int]
SEEN = "all that was answered before is in it"
RUN, KEY = "5" * 32, "loss"
PAGE = 25_000
HISTORY = "/api/2.0/mlflow/metrics/get-history"
CHARTS = {
    "a chart of 2,000 pixels (MLflow: 2,500 points)": (2000, 2500),
    "a chart of 320 pixels (MLflow: 320 points)": (320, 320),
}


def noise(count: int) -> list[Point]:
    values = np.random.default_rng(1).standard_normal(count)
    return [(value, fill.FIRST + 100 * step, step) for step, value in enumerate(values.tolist())]


def losses(count: int) -> list[Point]:
    dice = np.random.default_rng(2)
    values = (np.exp(-np.arange(count) / count * 3) + dice.standard_normal(count) / 50).astype(np.float32).astype(np.float64)
    times = fill.FIRST + 100 * np.arange(count) + dice.integers(0, 8, count)
    return list(zip(values.tolist(), times.tolist(), range(count), strict=True))


def rows(place: Place) -> list[Row]:
    count = 100_000 if place.quick else 1_000_000
    points = noise(count)
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        runs: dict[str, str] = {}
        disk: dict[str, list[Figures]] = {}
        for base in place.bases():
            for who in (NORIA, *([MLFLOW] if has_mlflow() else [])):
                peer, run_id, mib = _given(stack, place, points, who, base)
                peers[peer.name], runs[peer.name], disk[peer.name] = peer, run_id, [{"mib": mib}]
        for peer in peers.values():
            _equal(peer, runs[peer.name], points)
        made = [Row(f"{count:,} random doubles: on the disk", "", "{mib:,.1f} MiB", disk, note="goal: 8 MiB of 1,000,000")]
        made += _charts(place, peers, runs, count)
        return [*made, *_whole(place, peers, runs, count), _of_training(place, count)]


def _given(stack: ExitStack, place: Place, points: Sequence[Point], who: str, base: str) -> tuple[Peer, str, float]:
    """A server that has this history, its run, and how many MiB that took once it was at rest."""
    if who == MLFLOW:
        sizes: list[int] = []

        def filled(database: Path | str) -> None:
            fill.mlflow_history(database, "4" * 32, KEY, points[:1])  # So that the tables are there.
            sizes.append(size(database))
            fill.mlflow_history(database, RUN, KEY, points)
            sizes.append(size(database))

        return stack.enter_context(started(place, who, base, filled)), RUN, (sizes[1] - sizes[0]) / 2**20
    peer = stack.enter_context(started(place, who, base))
    with peer.wire() as wire:
        run_id = wire.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
        settle(peer.pid, 1)
        before = size(peer.database)
        log(wire, run_id, points)
    settle(peer.pid)
    return peer, run_id, (size(peer.database) - before) / 2**20


def log(wire: Wire, run_id: str, points: Sequence[Point]) -> None:
    for start in range(0, len(points), 1000):
        metrics = [
            {"key": KEY, "value": value, "timestamp": when, "step": step} for value, when, step in points[start : start + 1000]
        ]
        wire.post("/api/2.0/mlflow/runs/log-batch", {"run_id": run_id, "metrics": metrics})


def pages(wire: Wire, run_id: str, take: Callable[[bytes], object]) -> None:
    """All of it, by pages; the token is looked for in the end of a page, the rest is not looked at."""
    token = ""
    while True:
        body = wire.get(f"{HISTORY}?run_id={run_id}&metric_key={KEY}&max_results={PAGE}&page_token={quote(token)}")
        take(body)
        at = body.rfind(b'"next_page_token"')
        if at < 0:
            return
        token = body[at:].split(b'"')[3].decode()


def _equal(peer: Peer, run_id: str, points: Sequence[Point]) -> None:
    found: list[Point] = []
    with peer.wire() as wire:
        pages(
            wire, run_id, lambda body: found.extend((m["value"], m["timestamp"], m["step"]) for m in json.loads(body)["metrics"])
        )
    columns = zip(zip(*found, strict=True), zip(*points, strict=True), (np.float64, np.int64, np.int64), strict=True)
    for back, given, kind in columns:
        if np.array(back, kind).tobytes() != np.array(given, kind).tobytes():
            raise SystemExit(f"{peer.name} does not give back what it was given.")


def _charts(place: Place, peers: dict[str, Peer], runs: dict[str, str], count: int) -> list[Row]:
    made = []
    for what, (pixels, points) in CHARTS.items():

        def turn(name: str, pixels: int = pixels, points: int = points) -> Figures:
            if peers[name].who == NORIA:
                path = f"/api/2.0/noria/runs/curve?run_id={runs[name]}&key={KEY}&pixels={pixels}"
            else:
                path = f"/api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids={runs[name]}&metric_key={KEY}&max_results={points}"
            return _timed(peers, name, lambda wire: wire.pull(path), 3)

        found = alternate(2 if place.quick else 6, peers, turn, what)
        promise = "least, greatest and mean of each pixel (MLflow: a sample)"
        made.append(
            Row(f"{count:,} points: {what}", promise, "{ms:,.1f} ms", found, note="goal: 60 ms" if pixels == 2000 else "")
        )
    return made


def _timed(peers: dict[str, Peer], name: str, call: Callable[[Wire], object], times: int = 1) -> Figures:
    """The fastest of so many calls: the first one of a worker prepares its statements. And how far memory grew at most."""
    took = []
    with alone(peers[name], peers.values()), peers[name].wire() as wire, growth(family(peers[name].pid)) as grown:
        for _ in range(times):
            start = time.perf_counter()
            call(wire)
            took.append((time.perf_counter() - start) * 1e3)
        return {"ms": min(took), "mib": grown()}


def _whole(place: Place, peers: dict[str, Peer], runs: dict[str, str], count: int) -> list[Row]:
    url = f"{HISTORY}?metric_key={KEY}&run_id="
    reads: dict[str, Callable[[Wire, str], object]] = {
        f"all, in pages of {PAGE:,}": lambda wire, run_id: pages(wire, run_id, len),
        "all, in one answer": lambda wire, run_id: wire.pull(url + run_id),
    }
    made = []
    for what, read in reads.items():

        def turn(name: str, read: Callable[[Wire, str], object] = read) -> Figures:
            return _timed(peers, name, lambda wire: read(wire, runs[name]))

        found = alternate(1 if place.quick else 3, peers, turn, what)
        note = "goal: 1 s, memory flat" if "pages" in what else ""
        made.append(Row(f"{count:,} points: {what}", SEEN, "{ms:,.0f} ms, memory +{mib:,.0f} MiB", found, note=note))
    return made


def _of_training(place: Place, count: int) -> Row:
    with ExitStack() as stack:
        peer, run_id, mib = _given(stack, place, points := losses(count), NORIA, SQLITE)
        _equal(peer, run_id, points)
    return Row(f"{count:,} losses of training: on the disk", "", "{mib:,.1f} MiB", {peer.name: [{"mib": mib}]})
