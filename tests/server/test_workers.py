"""Several server processes at one address and one PostgreSQL."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from noria.client.http import Server
from noria.errors import AlreadyExists
from noria.types import Metric
from noria.wire import experiments, runs
from tests.conftest import Running, new_database, until


@pytest.fixture
def three(postgres: str, tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "home", "--db", new_database(postgres), "--workers", "3")
    yield running
    running.stop()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def clients(server: Running, count: int) -> Iterator[list[Server]]:
    """Connections of their own, so that they reach different processes."""
    several = [Server(server.url, server.token) for _ in range(count)]
    yield several
    for client in several:
        client.close()


@pytest.mark.slow
def test_what_one_process_answered_every_other_has(three: Running) -> None:
    assert three.process is not None and len(children(three.process.pid)) == 2
    with clients(three, 12) as several:
        run = several[0].call(runs.CREATE, runs.Create()).run.info.run_id
        for step in range(120):
            writer, reader = several[step % 12], several[(step * 7 + 3) % 12]
            writer.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric("loss", float(step), step, step)]))
            (latest,) = reader.call(runs.GET, runs.Get(run)).run.data.metrics
            assert latest.value == step
        assert several[5].call(runs.CURVE, runs.Curve(run, "loss")).steps == list(range(120))


@pytest.mark.slow
def test_many_at_once_lose_and_double_nothing(three: Running) -> None:
    run = three.client.call(runs.CREATE, runs.Create()).run.info.run_id

    def work(index: int) -> int:
        client, made = Server(three.url, three.token), 0
        for step in range(30):
            client.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric(f"m{index % 4}", float(index), step, step)]))
            client.call(runs.SET_TAG, runs.SetTag(f"t{step % 5}", str(index), run))
        try:
            client.call(experiments.CREATE, experiments.Create("the one"))
            made = 1
        except AlreadyExists:
            pass
        client.close()
        return made

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 1
    for key in range(4):
        curve = three.client.call(runs.CURVE, runs.Curve(run, f"m{key}"))
        assert sorted(zip(curve.steps, curve.values, strict=True)) == [
            (step, float(index)) for step in range(30) for index in range(key, 16, 4)
        ]


@pytest.mark.slow
def test_a_watcher_sees_what_another_process_commits(three: Running) -> None:
    run = three.client.call(runs.CREATE, runs.Create()).run.info.run_id
    seen: list[bytes] = []
    ready = threading.Event()

    def watch() -> None:
        address = f"{three.url}/api/2.0/noria/live?run_id={run}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {three.token}"})
        with urllib.request.urlopen(request, timeout=20) as stream:
            for line in stream:
                if line.startswith(b": watching"):
                    ready.set()
                if line.startswith(b"data:"):
                    seen.append(line)
                if len(seen) >= 24:
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert ready.wait(10)
    with clients(three, 24) as several:
        for step, client in enumerate(several):
            client.call(runs.LOG_BATCH, runs.LogBatch(run, [Metric("loss", 1.0, step, step)]))
    began = time.monotonic()
    watcher.join(10)
    assert not watcher.is_alive() and len(seen) == 24 and time.monotonic() - began < 1.0


@pytest.mark.slow
def test_workers_end_with_the_first_process_however_it_ends(three: Running) -> None:
    assert three.process is not None
    others = children(three.process.pid)
    three.kill()
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in others))
