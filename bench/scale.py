"""One Noria server with a great deal in it: 200,000 runs with 50 million points, most of them in few runs, as it is in life.

Of 1,000 runs, 900 have 10 steps of 10 metrics, 99 have 100, and one has 6,100. The runs are put in with one process and no server;
the time until all is folded and compacted is told.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median

import fill
from peers import SQLITE, Place, Wire, cpu, family, growth, memory, noria, say, settle, size
from search import NEWEST, PATH, TOP
from table import Row

AT_ONCE = 100
"""Steps that arrive in one batch."""


def rows(place: Place) -> list[Row]:
    runs = 5_000 if place.quick else 200_000
    home = place.home()
    start = time.perf_counter()
    points = _fill(home, runs)
    filled = time.perf_counter() - start
    figures = _watched(place, home) | {"filled": filled, "gib": size(home / "noria.db") / 2**30}
    made = []
    for what, cell, goal in (
        ("filled and at rest after", "{filled:,.0f} s, {gib:.2f} GiB", ""),
        ("from the start to /health, to the first search", "{health:.2f} s, {search:.2f} s", "goal: 2 s"),
        ("memory before any search", "{rss:,.0f} MiB", ""),
        ("memory after searches and a chart", "{later:,.0f} MiB (peak {peak:,.0f})", "goal: 400 MB"),
        ("top 100 by a metric; newest 100; a chart of 2,000 pixels", "{top:,.1f}, {newest:,.1f}, {chart:,.1f} ms", ""),
        ("CPU while nobody asks", "{idle:.2f} % of a core, {resting:,.0f} MiB", ""),
    ):
        found = {f"Noria, {SQLITE}": [figures]}
        made.append(Row(f"{runs:,} runs, {points:,} points: {what}", "", cell, found, note=goal))
    return made


def _steps(number: int) -> int:
    return 6_100 if number % 1000 == 0 else 100 if number % 1000 < 100 else 10


def _fill(home: Path, runs: int) -> int:
    """How many points that are."""
    from noria.store.metrics import Append, columns
    from noria.store.store import Store

    say(f"fill {runs:,} runs")
    fill.noria(home / "noria.db", runs)
    store, points = Store(home / "noria.db", power=False), runs * fill.METRICS
    for number, it in enumerate(fill.made(0, runs)):
        for steps in _batches(_steps(number)):
            listed = [step for step in steps for _ in range(fill.METRICS)]
            times = [it.start + 1000 * step for step in listed]
            last = store.append(Append(it.uuid, _names(len(steps)), columns([random.random() for _ in listed], times, listed)))
            points += len(listed)
        if number % 1000 == 999:
            last.result()  # So that what waits stays little.
            say(f"{points:,} points of {number + 1:,} runs")
    store.read(lambda conn: None)
    store.close()
    with noria(home) as (pid, _, _):
        settle(pid, 10)
    return points


def _batches(steps: int) -> Iterator[range]:
    """Steps that are logged at once."""
    return (range(first, min(steps, first + AT_ONCE)) for first in range(0, steps, AT_ONCE))


@cache
def _names(steps: int) -> str:
    return "\n".join([f"metric_{k}" for k in range(fill.METRICS)] * steps)


def _watched(place: Place, home: Path) -> dict[str, float]:
    """Three starts; the last server is then asked a few things, and left alone."""
    health, search = [], []
    for number in range(3):
        with noria(home) as (pid, url, took):
            begun = time.perf_counter()
            wire = Wire(url, (home / "token").read_text().strip())
            before = memory(family(pid), "Rss")
            wire.post(PATH, {"experiment_ids": ["0"], **NEWEST})
            health.append(took)
            search.append(took + time.perf_counter() - begun)
            if number == 2:
                return {"health": median(health), "search": median(search), "rss": before, **_asked(wire, pid), **_idle(pid)}
    raise AssertionError


def _asked(wire: Wire, pid: int) -> dict[str, float]:
    with growth(family(pid)) as grown:
        begun = memory(family(pid), "Rss")
        longest = next(fill.made(0, 1)).uuid
        curve = f"/api/2.0/noria/runs/curve?run_id={longest}&key=metric_0&pixels=2000"
        calls = {
            "top": lambda: wire.post(PATH, {"experiment_ids": ["0"], **TOP}),
            "newest": lambda: wire.post(PATH, {"experiment_ids": ["0"], **NEWEST}),
            "chart": lambda: wire.pull(curve),
        }
        took = {name: _milliseconds(call) for name, call in calls.items()}
        return took | {"later": memory(family(pid), "Rss"), "peak": begun + grown()}


def _milliseconds(call: Callable[[], object]) -> float:
    took = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        took.append((time.perf_counter() - start) * 1e3)
    return median(took)


def _idle(pid: int) -> dict[str, float]:
    time.sleep(3)
    before = cpu(family(pid))
    time.sleep(10)
    return {"idle": (cpu(family(pid)) - before) / 10 * 100, "resting": memory(family(pid), "Rss")}
