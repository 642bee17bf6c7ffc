"""Many clients at once: nobody fails, nothing is lost, nobody waits long."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from noria.types import Metric
from noria.wire import runs
from tests.clients import check, database_options, latest, new_run
from tests.conftest import Running

CLIENTS, BATCHES = 256, int(os.environ.get("NORIA_FAULT_BATCHES", "100"))


@pytest.fixture
def running(database: Path | str, tmp_path: Path) -> Iterator[Running]:
    server = Running(tmp_path / "home", *database_options(database))
    yield server
    server.stop()


class Asking:
    """One kept connection, without a thread."""

    def __init__(self, running: Running) -> None:
        self._port, self._token = int(running.url.rpartition(":")[2]), running.token

    async def __aenter__(self) -> Asking:
        self._in, self._out = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._out.close()

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
        self._out.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._in.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(answer[9:12]), await self._in.readexactly(length)


@pytest.mark.slow
def test_256_clients_at_once_lose_nothing_and_do_not_wait(running: Running) -> None:
    shared, own = new_run(running), [new_run(running) for _ in range(CLIENTS // 2)]
    statuses: dict[int, int] = {}
    waits: list[float] = []

    async def client(number: int) -> None:
        run = own[number // 2] if number % 2 else shared
        async with Asking(running) as asking:
            for step in range(BATCHES):
                metrics = [Metric(f"m{number}/{each}", float(step), step, step) for each in range(5)]
                body = msgspec.json.encode(runs.LogBatch(run, metrics))
                status = 0
                while status != 200:
                    begun = time.monotonic()
                    status, answer = await asking.post(runs.LOG_BATCH.path, body)
                    waits.append(time.monotonic() - begun)
                    statuses[status] = statuses.get(status, 0) + 1
                    assert status in (200, 429, 503), answer
                    if status != 200:
                        await asyncio.sleep(0.2)

    async def crowd() -> None:
        await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    begun = time.monotonic()
    asyncio.run(crowd())
    took = time.monotonic() - begun
    found = latest(running.client, shared)
    assert found == {f"m{number}/{each}": (BATCHES - 1, BATCHES - 1.0) for number in range(0, CLIENTS, 2) for each in range(5)}
    for number in range(CLIENTS):
        run = own[number // 2] if number % 2 else shared
        curve = running.client.call(runs.CURVE, runs.Curve(run, f"m{number}/{number % 5}"))
        assert curve.steps == list(range(BATCHES)) and curve.values == [float(step) for step in curve.steps]
    waits.sort()
    print(
        f"{statuses}, {len(waits) / took:.0f}/s, p50 {waits[len(waits) // 2]:.3f} s, p99 {waits[-len(waits) // 100]:.3f} s, longest {waits[-1]:.3f} s"
    )
    assert waits[-1] < 8.0
    check(running, *running.options)
