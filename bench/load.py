"""Clients that POST log-batch over connections that stay open: wrk, or this file's own where wrk is missing.

`python load.py URL CONNECTIONS SECONDS` is the latter; like batch.lua it takes RUNS, SIZE and TOKEN from the environment, and its
last line is JSON. It takes 3 to 4 times the CPU of wrk, which shows where the server is fast and the cores are few.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from peers import Peer

HERE = Path(__file__).parent
KEYS = 20


class Load(NamedTuple):
    """What came of it: answers a second, milliseconds at two quantiles, and how many requests failed."""

    speed: float
    p50: float
    p99: float
    answers: int
    failed: int


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "load.py (wrk is not installed)"


def post(peer: Peer, runs: Sequence[str], connections: int, seconds: float, size: int = KEYS) -> Load:
    """Batches of `size` metrics for so many seconds; a batch is for the next run each time."""
    env = os.environ | {"RUNS": " ".join(runs), "SIZE": str(size), "TOKEN": peer.token}
    argv = [sys.executable, str(HERE / "load.py"), peer.url, str(connections), str(seconds)]
    if shutil.which("wrk"):
        argv = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "300s",
            "-s",
            str(HERE / "batch.lua"),
            peer.url,
        ]
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{argv[0]} failed: {done.stderr or done.stdout}")
    it = json.loads(done.stdout.strip().splitlines()[-1])
    if it["answers"] and it["failed"] >= it["answers"]:
        raise SystemExit(f"{peer.name} refused every batch; see {peer.home}.")
    return Load((it["answers"] - it["failed"]) / it["seconds"], it["p50"], it["p99"], it["answers"], it["failed"])


def create_runs(peer: Peer, count: int) -> list[str]:
    with peer.wire() as wire:
        return [wire.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"] for _ in range(count)]


def batch(run_id: str, values: Sequence[str], time_ms: int, count: int) -> bytes:
    """The body of a request, the same as batch.lua's."""
    steps = max(1, len(values) // KEYS)
    points = [
        f'{{"key":"metric_{i % KEYS}","value":{value},"timestamp":{time_ms},"step":{count * steps + i // KEYS}}}'
        for i, value in enumerate(values)
    ]
    return f'{{"run_id":"{run_id}","metrics":[{",".join(points)}]}}'.encode()


class _Client(asyncio.Protocol):
    """One connection: the next request leaves when an answer has come."""

    def __init__(self, work: Work) -> None:
        self._work, self._read, self._start = work, b"", 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._read, self._start = b"", time.perf_counter()
        self._transport.write(self._work.request())

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if len(body) < int(length):
            return
        self._work.answered(time.perf_counter() - self._start, ok=head.startswith(b"HTTP/1.1 200"))
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        self._work.failed += not self._work.over


class Work:
    """What all connections share."""

    def __init__(self, url: str, runs: Sequence[str], size: int, token: str) -> None:
        host = url.removeprefix("http://")
        self._head = f"POST /api/2.0/mlflow/runs/log-batch HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
        self._runs, self._count = runs, 0
        self._values = [repr(random.random()) for _ in range(size + 997)]
        self._size, self.over = size, False
        self.took: list[float] = []
        self.failed = 0

    def request(self) -> bytes:
        count, at = self._count, self._count * 7 % 997
        self._count += 1
        body = batch(self._runs[count % len(self._runs)], self._values[at : at + self._size], int(time.time() * 1000), count)
        return f"{self._head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    def answered(self, took: float, *, ok: bool) -> None:
        self.took.append(took * 1e3)
        self.failed += not ok


async def drive(work: Work, url: str, connections: int, seconds: float) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Client(work), host, int(port))
    await asyncio.sleep(seconds)
    work.over = True


def main() -> None:
    import uvloop

    url, connections, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    work = Work(url, os.environ["RUNS"].split(), int(os.environ["SIZE"]), os.environ["TOKEN"])
    start = time.perf_counter()
    uvloop.run(drive(work, url, connections, seconds))
    single = quantiles(work.took, n=100) if len(work.took) > 1 else [0.0] * 99
    print(json.dumps({"answers": len(work.took), "seconds": time.perf_counter() - start, "p50": single[49], "p99": single[98],
                      "failed": work.failed}))  # fmt: skip


if __name__ == "__main__":
    main()
