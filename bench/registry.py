"""The registry: versions registered and moved between stages at 8 connections, and searches over 10,000 models.

The limit is a loop that commits rows of the same size to the same kind of database, as many at once as there are clients, and does
nothing else. `python registry.py URL KIND CONNECTIONS SECONDS` is the clients: `register` or `move`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

import load
from ingest import bare
from peers import MLFLOW, NORIA, Peer, Place, alone, has_mlflow, say, started
from table import Figures, Row, alternate

MODELS = 64
"""So many that clients seldom meet at one, which MLflow's servers try again for."""
PATHS = {"register": "/api/2.0/mlflow/model-versions/create", "move": "/api/2.0/mlflow/model-versions/transition-stage"}
SIZES = {"register": 620, "move": 260}
"""Bytes that a change leaves in Noria's tables: the version and its line of the log, or the line alone."""
POWER = "survives a power cut"
CELL = "{speed:,.0f}/s, p50 {p50:.2f} p99 {p99:.1f} ms, {failed:.0f} failed, CPU {cpu_us:,.0f} us"
SEARCHES: dict[str, dict[str, Any]] = {
    "the newest 100": {"order_by": ["last_updated_timestamp DESC"], "max_results": 100},
    "name LIKE": {"filter": "name LIKE 'model-0012%'", "max_results": 100},
    "a tag, the newest 100": {"filter": "tags.team = 't3'", "order_by": ["last_updated_timestamp DESC"], "max_results": 100},
    "one name": {"filter": "name = 'model-001234'"},
    "the first 100": {"max_results": 100},
}


def rows(place: Place) -> list[Row]:
    with ExitStack() as stack:
        kinds = [NORIA, *([MLFLOW] if has_mlflow() else [])]
        peers = {
            peer.name: peer
            for base in place.bases()
            for who in kinds
            for peer in [stack.enter_context(started(place, who, base))]
        }
        for peer in peers.values():
            _fill(peer)
        found = [_changes(place, peers, kind) for kind in PATHS]
    return [*found, *_searches(place)]


def _fill(peer: Peer) -> None:
    with peer.wire() as wire:
        for number in range(MODELS):
            wire.post("/api/2.0/mlflow/registered-models/create", {"name": f"m{number}"})
            wire.post(PATHS["register"], _body("register", number))


def _body(kind: str, number: int) -> dict[str, Any]:
    name = f"m{number % MODELS}"
    if kind == "register":
        return {"name": name, "source": f"s3://bucket/models/{number}", "tags": [{"key": "team", "value": "vision"}]}
    stage = ("Staging", "Production")[number // MODELS % 2]
    return {"name": name, "version": "1", "stage": stage}


def _changes(place: Place, peers: dict[str, Peer], kind: str) -> Row:
    seconds, rounds = (2, 3) if place.quick else (8, 5)
    limits = {f"limit, {base}": base for base in place.bases()}

    def turn(name: str) -> Figures:
        if name in limits:
            return {"speed": bare(place, limits[name], 8, seconds / 2, SIZES[kind])}
        with alone(peers[name], peers.values()):
            before = place.cpu(peers[name])
            done = _drive(peers[name], kind, 8, seconds)
            return {**done._asdict(), "cpu_us": (place.cpu(peers[name]) - before) / max(1, done.answers) * 1e6}

    found = alternate(rounds, [*peers, *limits], turn, kind)
    shares = []
    for name, base in limits.items():
        limit, ours = found.pop(name), found[f"{NORIA}, {base}"]
        share = median(a["speed"] / b["speed"] for a, b in zip(ours, limit, strict=True))
        shares.append(f"{base}: {median(each['speed'] for each in limit):,.0f}/s, of which Noria has {share:.0%}")
    what = {"register": "a version registered", "move": "a stage changed"}[kind]
    note = f"goal: 5 times MLflow, or 80 % of the limit of the disk; {'; '.join(shares)}"
    return Row(f"{what}, 8 connections", POWER, CELL, found, less=False, note=note)


def _drive(peer: Peer, kind: str, connections: int, seconds: float) -> load.Load:
    argv = [sys.executable, str(Path(__file__)), peer.url, kind, str(connections), str(seconds)]
    done = subprocess.run(argv, env=os.environ | {"TOKEN": peer.token}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{argv[1]} failed: {done.stderr or done.stdout}")
    it = json.loads(done.stdout.strip().splitlines()[-1])
    if it["failed"] >= it["answers"]:
        raise SystemExit(f"{peer.name} refused every change; see {peer.home}.")
    return load.Load((it["answers"] - it["failed"]) / it["seconds"], it["p50"], it["p99"], it["answers"], it["failed"])


def _searches(place: Place) -> list[Row]:
    """Noria alone: what it takes over HTTP."""
    many, made = 1000 if place.quick else 10_000, []
    with ExitStack() as stack:
        peers = {peer.name: peer for base in place.bases() for peer in [stack.enter_context(started(place, NORIA, base))]}
        for peer in peers.values():
            say(f"{peer.name}: {many:,} models")
            with peer.wire() as wire:
                for number in range(many):
                    tags = [{"key": "team", "value": f"t{number % 50}"}, {"key": "kind", "value": "net"}]
                    name = f"model-{number:06}"
                    wire.post("/api/2.0/mlflow/registered-models/create", {"name": name, "tags": tags})
                    wire.post(PATHS["register"], {"name": name, "source": "s3://bucket/x"})
        for what, query in SEARCHES.items():
            found = alternate(4, peers, partial(_search, peers, query=query), what)
            note = "goal: 20 ms"
            made.append(
                Row(f"{many:,} models: {what}", "", "{ms:.1f} ms", {name: turns[1:] for name, turns in found.items()}, note=note)
            )
    return made


def _search(peers: dict[str, Peer], name: str, query: dict[str, Any]) -> Figures:
    took, path = [], f"/api/2.0/mlflow/registered-models/search?{urlencode(query, doseq=True)}"
    with peers[name].wire() as wire:
        for _ in range(10):
            start = time.perf_counter()
            wire.get(path)
            took.append((time.perf_counter() - start) * 1e3)
    return {"ms": median(took)}


class _Work(load.Work):
    """What clients send, one after the other."""

    def __init__(self, url: str, kind: str, token: str) -> None:
        host = url.removeprefix("http://")
        self._kind, self._numbers = kind, count(MODELS)
        self._head = f"POST {PATHS[kind]} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
        self.over, self.failed = False, 0
        self.took: list[float] = []

    def request(self) -> bytes:
        body = json.dumps(_body(self._kind, next(self._numbers))).encode()
        return f"{self._head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    import uvloop

    url, kind, connections, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    work = _Work(url, kind, os.environ["TOKEN"])
    start = time.perf_counter()
    uvloop.run(load.drive(work, url, connections, seconds))
    single = quantiles(work.took, n=100) if len(work.took) > 1 else [0.0] * 99
    print(json.dumps({"answers": len(work.took), "seconds": time.perf_counter() - start, "p50": single[49], "p99": single[98],
                      "failed": work.failed}))  # fmt: skip


if __name__ == "__main__":
    main()
