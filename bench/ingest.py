"""Logging over HTTP: batches of 20 and of 1,000 metrics, single metrics by mlflow's own client, and a crowd of clients.

The limit of a batch is a loop that commits the same bytes to the same kind of database, as many rows at once as there are clients,
and does nothing else.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from load import KEYS, create_runs, post
from peers import MLFLOW, NORIA, POSTGRESQL, PROCESS, SQLITE, Peer, Place, alone, has_mlflow, serving, settle, started
from table import Figures, Row, alternate

RUNS = 64
POWER, KILL = "survives a power cut", "survives kill -9"
CELL = "{speed:,.0f}/s, p50 {p50:.2f} p99 {p99:.1f} ms, CPU {cpu_us:,.0f} us"
MORE = (2, 4, 16, 32)
"""Connections at which MLflow alone is tried besides, to find where it is best."""


def rows(place: Place) -> list[Row]:
    with ExitStack() as stack:
        kinds = [NORIA, PROCESS, *([MLFLOW] if has_mlflow() else [])]
        peers = [stack.enter_context(started(place, who, base)) for base in place.bases() for who in kinds]
        world = World(place, {peer.name: peer for peer in peers}, {peer.name: create_runs(peer, RUNS) for peer in peers})
        found = [*_batches(world), *_large(world), *(_single(world) if has_mlflow() else []), *_crowd(world)]
        return [*found, _debt(world)]


class World(NamedTuple):
    """The servers by name, and the runs of each."""

    place: Place
    peers: dict[str, Peer]
    runs: dict[str, list[str]]

    def of(self, *kinds: str) -> list[str]:
        return [name for name, peer in self.peers.items() if peer.who in kinds]

    def measure(self, name: str, connections: int, seconds: float, size: int = KEYS) -> Figures:
        peer = self.peers[name]
        with alone(peer, self.peers.values()):
            before = self.place.cpu(peer)
            load = post(peer, self.runs[name], connections, seconds, size)
            used = self.place.cpu(peer) - before
        return {**load._asdict(), "cpu_us": used / max(1, load.answers) * 1e6}


def _batches(world: World) -> list[Row]:
    seconds, rounds = (1, 2) if world.place.quick else (8, 3)
    limits = {f"limit, {base}": base for base in world.place.bases()}

    def turn(name: str, connections: int) -> Figures:
        if name in limits:
            return {"speed": bare(world.place, limits[name], connections, seconds / 2)}
        return world.measure(name, connections, seconds)

    found = {}
    for connections in (1, 8, 64):
        each = partial(turn, connections=connections)
        found[connections] = alternate(rounds, [*world.peers, *limits], each, f"{KEYS} metrics, {connections} connections")
    made = [row for connections, each in found.items() for row in _rows(f"log-batch of {KEYS}, {connections} connections", each)]
    best = {name: [each[name] for each in found.values()] for name in world.of(MLFLOW)}
    for name in best if not world.place.quick else ():
        best[name] += alternate(rounds, MORE, partial(_at, world, name, seconds), f"{name}, connections").values()
    if best:
        figures = {name: max(each, key=lambda turns: median(turn["speed"] for turn in turns)) for name, each in best.items()}
        ours = {name: turns for name, turns in found[64].items() if name in world.of(NORIA)}
        made.append(Row(f"log-batch of {KEYS}: Noria at 64 connections, MLflow at its best", POWER, CELL, figures | ours, less=False,
                        note="goal: 20 times MLflow, or 80 % of the limit"))  # fmt: skip
    return made


def _at(world: World, name: str, seconds: float, connections: int) -> Figures:
    return world.measure(name, connections, seconds)


def _rows(what: str, found: dict[str, list[Figures]]) -> list[Row]:
    """One row for each promise, with the limit of the stronger one in a note."""
    limits = {base: found.get(f"limit, {base}") for base in (SQLITE, POSTGRESQL)}
    notes = [f"{base}: {_share(found[f'{NORIA}, {base}'], limit)}" for base, limit in limits.items() if limit]
    power = {name: turns for name, turns in found.items() if not name.startswith((PROCESS, "limit"))}
    process = {name.replace(PROCESS, NORIA): turns for name, turns in found.items() if name.startswith((PROCESS, MLFLOW))}
    return [Row(what, POWER, CELL, power, less=False, note="limit of the disk, " + "; ".join(notes) if notes else ""),
            Row(f"{what}, --durability process", f"{KILL} (MLflow: {POWER})", CELL, process, less=False)]  # fmt: skip


def _share(ours: Sequence[Figures], limit: Sequence[Figures]) -> str:
    share = median(a["speed"] / b["speed"] for a, b in zip(ours, limit, strict=True))
    return f"{median(each['speed'] for each in limit):,.0f}/s, of which Noria has {share:.0%}"


def bare(place: Place, base: str, rows: int, seconds: float, size: int = 24 * KEYS) -> float:
    """Rows a second of a loop that commits so many at once: what the disk and the database allow."""
    names = "\n".join(f"metric_{i}" for i in range(KEYS))
    group = [(1, names, random.randbytes(size)) for _ in range(rows)]
    with _sqlite(place.home()) if base == SQLITE else _psycopg(place) as commit:
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            commit(group)
            done += rows
        return done / (time.perf_counter() - start)


@contextmanager
def _sqlite(home: Path) -> Any:
    connection = sqlite3.connect(home / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, run INTEGER, names TEXT, body BLOB)")

    def commit(group: list[tuple[int, str, bytes]]) -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO log (run, names, body) VALUES (?, ?, ?)", group)
        connection.execute("COMMIT")

    yield commit
    connection.close()


@contextmanager
def _psycopg(place: Place) -> Any:
    import psycopg

    assert place.postgresql is not None
    with psycopg.connect(place.postgresql.new_database()) as connection:
        connection.execute("CREATE TABLE log (id BIGSERIAL PRIMARY KEY, run BIGINT, names TEXT, body BYTEA)")
        text = "INSERT INTO log (run, names, body) SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bytea[])"

        def commit(group: list[tuple[int, str, bytes]]) -> None:
            connection.execute(text, [list(column) for column in zip(*group, strict=True)])
            connection.commit()

        commit([(1, "", b"")])
        yield commit


def _large(world: World) -> list[Row]:
    seconds, rounds = (2, 2) if world.place.quick else (10, 3)

    def turn(name: str) -> Figures:
        figures = world.measure(name, 8, seconds, 1000)
        return figures | {"speed": figures["speed"] * 1000, "cpu_us": figures["cpu_us"] / 1000}

    made = _rows("log-batch of 1,000, 8 connections: metrics", alternate(rounds, world.peers, turn, "1,000 metrics"))
    return [row._replace(cell=CELL.replace("{cpu_us:,.0f}", "{cpu_us:,.1f}"), note="goal: 30 times") for row in made]


def _single(world: World) -> list[Row]:
    """mlflow's own client, in this process; beside the servers, one that answers {} at once."""
    import mlflow

    calls, rounds = (20, 4) if world.place.quick else (50, 12)
    names, peers = world.of(NORIA, MLFLOW), list(world.peers.values())
    with serving([sys.executable, str(Path(__file__).with_name("nothing.py")), "{port}"], str(world.place.home())) as (_, url, _):
        clients = {name: mlflow.MlflowClient(world.peers[name].url) for name in names} | {"nothing": mlflow.MlflowClient(url)}
        step = count()

        def turn(name: str) -> Figures:
            peer = world.peers.get(name, peers[0])
            run_id, took = world.runs[peer.name][0], []
            with alone(peer, peers):
                os.environ["MLFLOW_TRACKING_TOKEN"] = peer.token or "none"
                before = time.thread_time()
                for _ in range(calls):
                    start = time.perf_counter()
                    clients[name].log_metric(run_id, "loss", 0.3, step=next(step))
                    took.append((time.perf_counter() - start) * 1e3)
                used = time.thread_time() - before
            return {"p50": median(took), "cpu": used / calls * 1e3}

        found = alternate(rounds, clients, turn, "mlflow's client")
    own = median(each["p50"] for each in found.pop("nothing"))
    note = f"the client's own part: {own:.2f} ms, with a server that answers {{}} at once"
    return [Row("log_metric by mlflow's client", POWER, "p50 {p50:.2f} ms", found, note=note)]


def _crowd(world: World) -> list[Row]:
    """Long enough for MLflow's pool of connections, whose patience is 30 s, to give up."""
    seconds = 4 if world.place.quick else 75
    found = alternate(1, world.of(NORIA, MLFLOW), lambda name: world.measure(name, 256, seconds), "256 connections")
    cell = "{speed:,.0f}/s, {failed:.0f} of {answers:.0f} failed, p99 {p99:,.0f} ms"
    return [Row(f"log-batch of {KEYS}, 256 connections, {seconds} s", POWER, cell, found, less=False, note="goal: no failure")]


def _debt(world: World) -> Row:
    """What Noria put off while it stood still: it is not in the figures above."""

    def turn(name: str) -> Figures:
        peer = world.peers[name]
        with alone(peer, world.peers.values()):
            before = world.place.cpu(peer)
            settle(peer.pid)
            return {"cpu": world.place.cpu(peer) - before}

    return Row("compaction after all of the above", "", "CPU {cpu:.1f} s", alternate(1, world.of(NORIA), turn, "compaction"))
