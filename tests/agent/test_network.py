"""A server that is away, stands still, dawdles or is asked through a bad network: training does not notice, and all arrives once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from noria.agent.agent import Agent
from noria.agent.relay import Relay
from noria.client.http import Server
from noria.errors import Unavailable
from noria.wire import runs, spools
from tests.agent.gateway import Mode, gateway
from tests.agent.test_relay import run_of, write
from tests.conftest import Running, until

TRAINING = """
import noria, resource, time
noria.start_run(run_name="patient")
noria.log(loss=0.5, step=0)
before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for step in range(1, 10_000):
    start = time.perf_counter()
    noria.log(loss=0.5, step=step)
    times.append(time.perf_counter() - start)
    if step % 1000 == 0: time.sleep(0.05)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(sorted(times)[int(len(times) * 0.99)], grown)
"""


def train(home: Path) -> None:
    """10,000 steps. No call raises, 99 in 100 take less than a millisecond, and nothing piles up in memory."""
    env = {**os.environ, "NORIA_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0 and done.stderr == ""
    p99, grown = map(float, done.stdout.split())
    assert p99 < 0.001 and grown < 8 * 1024


def arrived(server: Server) -> bool:
    try:
        run = server.call(runs.RESOLVE, runs.Resolve("patient")).run
        steps = server.call(runs.CURVE, runs.Curve(run.info.run_id, "loss")).steps
    except Exception:
        return False
    return steps == list(range(10_000)) and run.info.status == "FINISHED"


@pytest.mark.parametrize("mode", ["hole", "drip", "503"])
def test_a_bad_network_between_agent_and_server(own_server: Running, tmp_path: Path, mode: Mode) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    with gateway(own_server.url) as between, Agent(between.url, own_server.token, home):
        until(lambda: between._open)
        between.mode = mode
        train(home)
        time.sleep(1.0)
        assert not arrived(own_server.client)
        between.mode = "open"
        until(lambda: arrived(own_server.client), 40)


def test_no_server_at_all_until_the_training_is_over(tmp_path: Path) -> None:
    train(tmp_path / "home")
    server = Running(tmp_path / "home")
    try:
        until(lambda: arrived(server.client), 40)
    finally:
        server.stop()


def test_a_server_that_stands_still(own_server: Running, tmp_path: Path) -> None:
    assert own_server.process is not None
    home = tmp_path / "elsewhere"
    own_server.process.send_signal(signal.SIGSTOP)
    with closing(Server(own_server.url, own_server.token, timeout=1)) as impatient:
        try:
            train(home)
            relay, paths = Relay(impatient), sorted((home / "spool").glob("*.spool"))
            for _ in range(3):
                with pytest.raises(Unavailable, match="no answer in time"):
                    relay.ship(paths)
        finally:
            own_server.process.send_signal(signal.SIGCONT)
        until(lambda: _shipped(relay, paths))
    assert arrived(own_server.client)


def _shipped(relay: Relay, paths: list[Path]) -> bool:
    try:
        relay.ship(paths)
    except Unavailable:
        return False
    return True


@pytest.mark.slow
def test_a_server_that_stands_still_for_a_minute(own_server: Running, tmp_path: Path) -> None:
    assert own_server.process is not None
    home = tmp_path / "elsewhere"
    home.mkdir()
    with Agent(own_server.url, own_server.token, home):
        own_server.process.send_signal(signal.SIGSTOP)
        try:
            train(home)
            time.sleep(60)
        finally:
            own_server.process.send_signal(signal.SIGCONT)
        until(lambda: arrived(own_server.client), 40)


def test_shipments_that_are_repeated_lost_and_late_equal_one_each(server: Running, tmp_path: Path) -> None:
    """Each goes to the server one to three times, older ones come again, and three answers in ten are lost."""
    path, header = write(tmp_path, points=0, end=False)
    expected: list[int] = []
    with gateway(server.url) as between, closing(Server(between.url, server.token)) as through:
        between.mode = "unfaithful"
        relay = Relay(through)
        for batch in range(60):
            with path.open("ab") as file:
                for step in range(batch * 10, batch * 10 + 10):
                    file.write(spools.frame(spools.Log(step, 1e9 + step, {"loss": float(step)})))
                if batch % 20 == 19:  # Ten steps are taken back, and each is done again: once more would show.
                    file.write(spools.frame(spools.Rewind(batch * 10)))
                    file.write(spools.frame(spools.Log(batch * 10, 1e9, {"loss": -1.0})))
            expected += range(batch * 10, batch * 10 + (10 if batch % 20 != 19 else 1))
            until(lambda: _shipped(relay, [path]))
        assert between.repeated > 10 and between.lost > 10 and between.late > 10
    run, _, steps = run_of(server.client, header.run_id)
    assert steps == expected and relay.left(path) == 0
    values = server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "loss")).values
    assert [value for value in values if value == -1.0] == [-1.0] * 3


def test_two_relays_at_one_spool_through_a_bad_network(server: Running, tmp_path: Path) -> None:
    path, header = write(tmp_path, points=3000)
    with gateway(server.url) as between, closing(Server(between.url, server.token)) as through:
        between.mode = "unfaithful"
        relays = [Relay(through), Relay(server.client)]
        for _ in range(3):
            for relay in relays:
                until(lambda relay=relay: _shipped(relay, [path]))
    assert run_of(server.client, header.run_id)[2] == list(range(3000))
