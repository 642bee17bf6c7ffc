"""kill -9 of the server, and of its database, while clients write: nothing answered is lost, nothing is doubled, nothing is half."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.errors import Unavailable
from tests.clients import SMALL, Client, Logger, Shipper, check, database_options, latest, new_run, refused
from tests.conftest import Postgres, Running, new_database, until

ROUNDS = int(os.environ.get("NORIA_FAULT_ROUNDS", "10"))
"""Of kills; more for a night."""


@pytest.fixture
def running(database: Path | str, tmp_path: Path) -> Iterator[Running]:
    server = Running(tmp_path / "home", *database_options(database), python=SMALL)
    yield server
    server.stop()


@pytest.mark.slow
def test_kill_9_of_the_server_loses_doubles_and_halves_nothing(running: Running) -> None:
    chance, restarts = random.Random(3), []
    shared = new_run(running)
    clients: list[Client] = [
        *(Logger(running, seed, shared) for seed in range(4)),
        *(Shipper(running, seed) for seed in (10, 11)),
    ]
    for client in clients:
        client.start()
    for _ in range(ROUNDS):
        time.sleep(chance.uniform(0.1, 0.6))
        running.kill()
        begun = time.monotonic()
        running.start()
        new_run(running)
        restarts.append(time.monotonic() - begun)
    time.sleep(0.3)
    for client in clients:
        client.finish()
    kept = sum(client.verify(running.client) for client in clients)
    assert kept > 100 * ROUNDS and sum(client.refused for client in clients) > 0
    middle = sorted(restarts)[len(restarts) // 2]
    assert middle < 5.0
    check(running, *running.options)
    print(f"{kept} points kept, {ROUNDS} restarts of {min(restarts):.2f} to {max(restarts):.2f} s, the middle {middle:.2f} s")


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    started = Postgres()
    yield started
    started.stop()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_kill_9_of_postgresql_is_a_503_until_it_is_back(own_postgres: Postgres, tmp_path: Path, workers: str) -> None:
    running = Running(tmp_path / "home", "--db", new_database(own_postgres.url), "--workers", workers, python=SMALL)
    try:
        shared = new_run(running)
        clients: list[Client] = [*(Logger(running, seed, shared) for seed in range(3)), Shipper(running, 10)]
        for client in clients:
            client.start()
        for _ in range(2):
            time.sleep(1.0)
            own_postgres.kill()
            for ask in (lambda: new_run(running), lambda: latest(running.client, shared)):
                assert "The database did not answer" in refused(ask).message
            own_postgres.start()
            begun = time.monotonic()
            until(lambda: _answers(running, shared), 10.0)
            print(f"answers {time.monotonic() - begun:.2f} s after PostgreSQL does")
        time.sleep(0.5)
        for client in clients:
            client.finish()
        kept = sum(client.verify(running.client) for client in clients)
        assert kept > 100 and all(client.refused and client.answered for client in clients)
        check(running, *running.options[:2])
    finally:
        running.stop()


def _answers(running: Running, run: str) -> bool:
    try:
        new_run(running)
        latest(running.client, run)
    except Unavailable:
        return False
    return True
