"""Disks that fail: at the N-th call of the system, until a run of it meets no fault; disks that are full; and syncs that fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

import msgspec
import pytest

from noria.errors import Unavailable
from noria.types import Metric
from noria.wire import runs
from tests.clients import SMALL, Logger, Shipper, check, latest, new_run, refused
from tests.conftest import Running, require, until

EVERY = bool(os.environ.get("NORIA_FAULT_EVERY"))
"""Each N in turn, not just some: for a night."""
OFTEN = (
    SMALL
    + """
import sqlite3
class Eager(sqlite3.Connection):
    def execute(self, text, *rest):
        return super().execute(text.replace("wal_autocheckpoint=4000", "wal_autocheckpoint=24"), *rest)
real = sqlite3.dbapi2.connect
sqlite3.dbapi2.connect = lambda *given, **named: real(*given, **named, factory=Eager)
"""
)
"""A log of some pages is copied into the database as one of megabytes would be."""


def numbers() -> Iterator[int]:
    """1, 2, 3, 5, 8, 13, …; or all."""
    number = 1
    while True:
        yield number
        number = number + 1 if EVERY else max(number + 1, number * 5 // 3)


class Injected:
    """Whether the fault was met, once it is over."""

    met = False


@contextmanager
def fault(running: Running, calls: str, what: str, nth: int) -> Iterator[Injected]:
    """The nth of these calls, in each thread that the server has by now, fails so."""
    require("strace", shutil.which("strace") is not None, "install the package strace")
    assert running.process is not None
    pid, log, injected = running.process.pid, running.folder / "strace", Injected()
    argv = ["strace", "-qq", "-o", str(log), "-e", f"trace={calls}", "-e", "signal=none"]
    argv += [f"--attach={task}" for task in os.listdir(f"/proc/{pid}/task")]
    tracer = subprocess.Popen(
        [*argv, "-e", f"inject={calls}:{what}:when={nth}"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until(lambda: tracer.poll() is not None or "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text())
        time.sleep(0.1)  # The main thread is the last of them, or nearly so.
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            require("strace", False, tracer.stderr.read().decode().strip())
        yield injected
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        assert tracer.stderr is not None
        tracer.stderr.close()
    injected.met = "(INJECTED)" in log.read_text() or running.process.poll() is not None


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    server = Running(tmp_path / "home", python=OFTEN)
    yield server
    server.stop()


def work(running: Running, seed: int) -> tuple[Logger, Shipper]:
    """Some writes, one after the other."""
    return Logger(running, seed, new_run(running)), Shipper(running, 1000 + seed)


def go(clients: tuple[Logger, Shipper]) -> None:
    for turn in range(12):
        clients[turn % 4 == 3].step()


def verify(clients: tuple[Logger, Shipper], running: Running) -> int:
    """How many points were answered and are there."""
    for client in clients:
        client.server.close()
    until(lambda: _folds(running))
    return sum(client.verify(running.client) for client in clients)


def _folds(running: Running) -> bool:
    """Whether lists have what is answered: for a moment after a fault they may not."""
    run = new_run(running)
    running.client.call(runs.LOG_METRIC, runs.LogMetric("m", 1.0, 1, run))
    return bool(latest(running.client, run))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["EIO", "ENOSPC"])
def test_each_write_that_fails_is_a_503_and_nothing_answered_is_lost(running: Running, what: str) -> None:
    refusals = 0
    for nth in numbers():
        clients = work(running, nth)
        with fault(running, "pwrite64", f"error={what}", nth) as injected:
            go(clients)
        verify(clients, running)
        refusals += clients[0].refused + clients[1].refused
        if not injected.met:
            break
    assert nth > 8 and refusals
    print(f"{what}: {nth} writes, {refusals} refusals")
    check(running)


@pytest.mark.slow
def test_after_a_sync_that_failed_nothing_more_is_taken_until_a_restart(running: Running) -> None:
    stopped = 0
    for nth in numbers():
        clients = work(running, nth)
        with fault(running, "fdatasync", "error=EIO", nth) as injected:
            go(clients)
        try:
            new_run(running)
        except Unavailable as error:
            assert "nothing more is taken" in error.message and "start the server again" in error.message
            latest(running.client, clients[0].own)  # Reading goes on.
            stopped += 1
            running.stop()
            running.start()
        verify(clients, running)
        if not injected.met:
            break
    assert nth > 4 and stopped
    check(running)


@pytest.mark.slow
@pytest.mark.parametrize("calls", ["pwrite64", "fdatasync"])
def test_kill_9_at_each_step_of_a_commit_loses_and_halves_nothing(running: Running, calls: str) -> None:
    for nth in numbers():
        clients = work(running, nth)
        with fault(running, calls, "signal=KILL", nth) as injected:
            go(clients)
        if injected.met:
            running.kill()
            running.start()
        verify(clients, running)
        if not injected.met:
            break
    assert nth > 4
    check(running)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB, a third of which is taken by a file `ballast`."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True, text=True)
    require("tmpfs", mounted.returncode == 0, f"run as root, where tmpfs can be mounted ({mounted.stderr.strip()})")
    (folder / "ballast").write_bytes(bytes(4 << 20))
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_a_503_that_heals_without_a_restart(full: Path) -> None:
    running = Running(full / "home")
    try:
        shared = new_run(running)
        client, shipper = Logger(running, 1, shared), Shipper(running, 2)
        for _ in range(10):
            client.step()
        before = latest(running.client, client.own)
        for seed in range(2000):  # Large steps first: the disk is to be full, not the day.
            wide = [Metric(f"w/{name}", float(seed), seed, seed) for name in range(1000)]
            if not client.ask(lambda server, batch=wide: server.call(runs.LOG_BATCH, runs.LogBatch(shared, batch))):  # type: ignore[misc]
                break
        while client.refused + shipper.refused < 30:
            client.step()
            shipper.step()
        status, headers, body = raw(running, "/api/2.0/mlflow/runs/log-batch", runs.LogBatch(shared, wide))
        assert status == 503 and headers["Retry-After"] == "1" and headers["Content-Type"] == "application/json"
        assert "does not take more data" in body["message"] and "Free some space" in body["message"]
        error = refused(lambda: running.client.upload(f"mlflow-artifacts:/0/{shared}/artifacts", "big", full / "ballast"))
        assert isinstance(error, Unavailable) and "free some space" in error.message
        assert latest(running.client, client.own) == before != {}
        assert len(running.client.call(runs.CURVE, runs.Curve(shared, "w/9")).steps) == seed
        (full / "ballast").unlink()
        for _ in range(10):
            client.step()
            shipper.step()
        assert client.answered > 10
        kept = verify((client, shipper), running)
        print(f"{kept} points kept, {client.refused + shipper.refused} refusals")
        check(running)
    finally:
        running.stop()


def raw(running: Running, path: str, body: object) -> tuple[int, Message, Any]:
    """Status, headers and JSON of an answer."""
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(running.url + path, msgspec.json.encode(body), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.load(error)
