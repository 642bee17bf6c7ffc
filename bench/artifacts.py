"""Artifacts: one large file up and down, and many small ones, by a client that does nothing else and by mlflow's own.

Noria answers an upload when the file is on the disk; MLflow when the operating system has it, which a power cut takes back. The limit
is a bare write of the same bytes, with and without that promise.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from uuid import uuid4

from load import create_runs
from peers import MLFLOW, NORIA, PROCESS, SQLITE, Peer, Place, alone, family, growth, has_mlflow, started
from table import Figures, Row, alternate

MIB = 2**20
BLOCK = random.Random(0).randbytes(MIB)
SMALL = 10 * 1024
UP = "Noria: survives a power cut; MLflow: survives kill -9"
ALIKE = "survives kill -9"
LIMIT, ONLY_WRITTEN = "limit", "limit without fsync"


def rows(place: Place) -> list[Row]:
    """Beside the servers, the database of an artifact is the same whatever it is: SQLite."""
    whos = [NORIA, *([MLFLOW] if has_mlflow() else [])]
    with ExitStack() as stack:
        started_ = [stack.enter_context(started(place, who, SQLITE)) for who in whos]
        peers = {peer.name: peer for peer in started_}
        runs = {peer.name: create_runs(peer, 1)[0] for peer in started_}
        large = _large(place, peers, runs)
        alike = stack.enter_context(started(place, PROCESS, SQLITE))
        peers[alike.name], runs[alike.name] = alike, create_runs(alike, 1)[0]
        return [*large, *_small(place, peers, runs)]


def _path(run_id: str, name: str) -> str:
    return f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/{name}"


def _large(place: Place, peers: dict[str, Peer], runs: dict[str, str]) -> list[Row]:
    mib, rounds = (64, 2) if place.quick else (256, 5)

    def up(name: str) -> Figures:
        if name not in peers:
            return {"speed": mib / _written(place.folder, [BLOCK] * mib, 1, sync=name == LIMIT)}
        return _timed(peers, name, mib, lambda peer: _put(peer, _path(runs[name], "large"), [BLOCK] * mib))

    def down(name: str) -> Figures:
        return _timed(peers, name, mib, lambda peer: _pull(peer, _path(runs[name], "large"), mib * MIB))

    cell = "{speed:,.0f} MiB/s, memory +{mib:,.0f} MiB"
    upward = alternate(rounds, [*peers, LIMIT, ONLY_WRITTEN], up, f"{mib} MiB up")
    downward = alternate(rounds, peers, down, f"{mib} MiB down")
    note = _limits(upward, "MiB/s") + "; goal: not slower, memory +64 MiB at most"
    return [Row(f"{mib} MiB up", UP, cell, upward, less=False, note=note),
            Row(f"{mib} MiB down", "", cell, downward, less=False, note="goal: not slower, memory +64 MiB at most")]  # fmt: skip


def _timed(peers: dict[str, Peer], name: str, amount: int, call: Callable[[Peer], object]) -> Figures:
    with alone(peers[name], peers.values()), growth(family(peers[name].pid)) as grown:
        os.sync()  # What others wrote is not written back in this one's time.
        start = time.perf_counter()
        call(peers[name])
        return {"speed": amount / (time.perf_counter() - start), "mib": grown()}


def _put(peer: Peer, path: str, blocks: list[bytes]) -> None:
    with peer.wire() as wire:
        wire.put(path, sum(map(len, blocks)), blocks)


def _pull(peer: Peer, path: str, length: int) -> None:
    with peer.wire() as wire:
        if wire.pull(path) != length:
            raise SystemExit(f"{peer.name} did not give back the whole file.")


def _written(folder: Path, blocks: list[bytes], files: int, *, sync: bool) -> float:
    """Seconds that bare files take: written beside, synced, renamed, and their names synced."""
    os.sync()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        names = os.open(name, os.O_RDONLY)
        start = time.perf_counter()
        for number in range(files):
            with open(f"{name}/{number}.part", "wb", buffering=0) as file:
                for block in blocks:
                    file.write(block)
                if sync:
                    os.fsync(file.fileno())
            os.replace(f"{name}/{number}.part", f"{name}/{number}")
            if sync:
                os.fsync(names)
        took = time.perf_counter() - start
        os.close(names)
        return took


def _limits(found: dict[str, list[Figures]], unit: str) -> str:
    """Of the two contenders that are no servers, in words; they leave the table."""
    medians = {name: median(turn["speed"] for turn in found.pop(name)) for name in (LIMIT, ONLY_WRITTEN)}
    return "; ".join(f"{name} {speed:,.0f} {unit}" for name, speed in medians.items())


def _small(place: Place, peers: dict[str, Peer], runs: dict[str, str]) -> list[Row]:
    count, rounds = (200, 2) if place.quick else (1000, 3)
    block = [BLOCK[:SMALL]]

    def turn(name: str, connections: int) -> Figures:
        if name not in peers:
            return {"speed": count / _written(place.folder, block, count, sync=name == LIMIT)}
        folder = uuid4().hex  # Made anew each time, as a run's is.
        return _timed(peers, name, count, lambda peer: _many(peer, _path(runs[name], folder), block, count, connections))

    made = []
    for connections in (1, 8):
        what = f"{count:,} files of 10 KiB up, {connections} connection{'s' * (connections > 1)}"
        found = alternate(rounds, [*peers, LIMIT, ONLY_WRITTEN], partial(turn, connections=connections), what)
        note = _limits(found, "files/s") + "; goal: 5 times"
        made += _both(what, found, note)
    return [*made, *(_by_mlflow(place, peers, runs, count, rounds) if has_mlflow() else [])]


def _many(peer: Peer, path: str, block: list[bytes], count: int, connections: int) -> None:
    def some(first: int) -> None:
        with peer.wire() as wire:
            for number in range(first, count, connections):
                wire.put(f"{path}/{number}", SMALL, block)

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(some, range(connections)))


def _by_mlflow(place: Place, peers: dict[str, Peer], runs: dict[str, str], count: int, rounds: int) -> list[Row]:
    import mlflow

    folder = place.home()
    for number in range(count):
        (folder / str(number)).write_bytes(BLOCK[:SMALL])
    clients = {name: mlflow.MlflowClient(peer.url) for name, peer in peers.items()}

    def turn(name: str) -> Figures:
        os.environ["MLFLOW_TRACKING_TOKEN"] = peers[name].token or "none"
        path = uuid4().hex
        return _timed(peers, name, count, lambda _: clients[name].log_artifacts(runs[name], str(folder), path))

    found = alternate(rounds, peers, turn, "log_artifacts")
    return _both(f"{count:,} files of 10 KiB up, log_artifacts of mlflow's client", found)


def _both(what: str, found: dict[str, list[Figures]], note: str = "") -> list[Row]:
    """A row with what Noria promises, and one with what MLflow does."""
    power = {name: turns for name, turns in found.items() if not name.startswith(PROCESS)}
    process = {name.replace(PROCESS, NORIA): turns for name, turns in found.items() if name.startswith((PROCESS, MLFLOW))}
    cell = "{speed:,.0f} files/s"
    return [Row(what, UP, cell, power, less=False, note=note), Row(what, ALIKE, cell, process, less=False, note=note)]
