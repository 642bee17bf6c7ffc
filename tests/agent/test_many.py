"""Equal shipments that arrive at once are one, whichever process and database answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from noria.client.http import Server
from noria.errors import NoriaError
from noria.wire import runs, spools
from noria.wire.spools import Begin, Header, Log
from tests.conftest import Running, new_database


@pytest.fixture(params=["one process", "three processes"])
def answering(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """SQLite and one process, or PostgreSQL and three."""
    several = request.param == "three processes"
    options = ("--db", new_database(request.getfixturevalue("postgres")), "--workers", "3") if several else ()
    running = Running(tmp_path / "home", *options)
    yield running
    running.stop()


def test_sixteen_equal_shipments_at_once_are_one(answering: Running) -> None:
    header = Header(spools.FORMAT, uuid4().hex, uuid4().hex, "", 0, 0, socket.gethostname(), 1, "1", 1)
    shipments = [[header, Begin("Default", "", "ada", 1, {})], *([Log(step, 1e9 + step, {"loss": 0.5})] for step in range(20))]
    offset = 0
    with ThreadPoolExecutor(16) as pool:
        clients = [Server(answering.url, answering.token) for _ in range(16)]
        for records in shipments:
            frames = b"".join(map(spools.frame, records))
            request = spools.Ship(header.spool_id, offset, frames)
            offset += len(frames)
            answers = list(pool.map(lambda client, request=request: ship(client, request), clients))
            assert set(answers) == {offset}
        for client in clients:
            client.close()
    curve = answering.client.call(runs.CURVE, runs.Curve(header.run_id, "loss"))
    assert curve.steps == list(range(20))


def ship(client: Server, request: spools.Ship) -> int:
    """As a relay does it: what is refused is sent again."""
    for _ in range(20):
        try:
            return client.call(spools.SHIP, request).offset
        except NoriaError:
            time.sleep(0.02)
    pytest.fail("refused again and again")
