"""`noria runs watch`: each point as it is logged, over restarts, until the end."""

from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..conftest import Running, until
from .conftest import Maker

SECOND = 1.0


class Watching:
    """A watch, and when each of its lines came."""

    def __init__(self, *argv: str, **env: str) -> None:
        self.lines: list[tuple[float, str]] = []
        self.errors: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "noria.cli.main", "runs", "watch", *argv], env={**os.environ, **env},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append((time.time(), line.rstrip("\n")))

    def _read_errors(self) -> None:
        self.errors.extend(self.process.stderr or ())

    def has(self, text: str) -> float:
        """When a line with this text came; 0 for not yet."""
        return next((at for at, line in self.lines if text in line), 0.0)

    def end(self) -> int:
        code = self.process.wait(30)
        for thread in self._threads:
            thread.join()
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def watch() -> Iterator[Any]:
    started: list[Watching] = []

    def start(*argv: str, **env: str) -> Watching:
        started.append(Watching(*argv, **env))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.end()


def _ready(watching: Watching, make: Maker, key: str) -> None:
    """Until the watch hears what is logged: a point that nobody watches yet is no news to it."""
    step = iter(range(-1000, 0))
    until(lambda: make.log(key, next(step), warm=1.0) or watching.lines)


def test_a_point_is_seen_within_a_second_and_the_end_ends_it(watch: Any, server: Any, make: Any) -> None:
    key = make.run("followed")
    make.log(key, 0, loss=9.0)
    watching = watch(key[:12], NORIA_SERVER=server.url, NORIA_TOKEN=server.token)
    _ready(watching, make, key)
    for step in range(3):
        sent = time.time()
        make.log(key, step, int(sent * 1000), loss=1 / (step + 1), accuracy=0.5)
        at = until(lambda step=step: watching.has(f"step {step}  loss="))
        assert at - sent < SECOND
    make.log(key, 1, int(time.time() * 1000), loss=math.nan)
    until(lambda: watching.has("step 1  loss=nan"))
    make.end(key)
    assert watching.end() == 0
    text = "\n".join(line for _, line in watching.lines)
    assert "\x1b" not in text and "loss=9" not in text, "what was there before is no news"
    assert watching.errors[-1] == f"noria: run {key[:8]} 'followed' is FINISHED\n"


def test_json_lines_of_one_metric_and_a_failure(watch: Any, server: Any, make: Any) -> None:
    key = make.run("failing")
    watching = watch(key, "--json", "-m", "loss", NORIA_SERVER=server.url, NORIA_TOKEN=server.token)
    until(lambda: watching.has("RUNNING"))
    make.log(key, 5, 1234, loss=math.inf, other=1.0)
    until(lambda: watching.has("Infinity"))
    make.end(key, "FAILED")
    assert watching.end() == 1
    assert [json.loads(line) for _, line in watching.lines] == [
        {"run_id": key, "status": "RUNNING"},
        {"key": "loss", "value": "Infinity", "timestamp": 1234, "step": 5},
        {"run_id": key, "status": "FAILED"},
    ]


def test_a_run_that_has_ended_ends_at_once(ask: Any, make: Any) -> None:
    key = make.run("over")
    make.log(key, 1, loss=0.5)
    make.end(key, "KILLED")
    done = ask("runs", "watch", key, check=False)
    assert (done.returncode, done.stdout) == (1, "") and "'over' is KILLED" in done.stderr


def test_nothing_is_missed_or_told_twice_when_the_server_is_killed_and_comes_back(watch: Any, own_server: Running) -> None:
    make = Maker(own_server, "restarts")
    key = make.run("long")
    make.log(key, 0, loss=0.0)
    watching = watch(key, "--json")
    until(lambda: watching.has("RUNNING"))
    for step in range(1, 6):
        make.log(key, step, loss=float(step))
    until(lambda: watching.has('"step":5'))
    own_server.kill()
    until(lambda: any("Waiting for it" in line for line in watching.errors))
    # What is logged before the watch is back: the server is told by another way than the stream.
    own_server.start()
    make.client = own_server.client
    for step in range(6, 40):
        make.log(key, step, loss=float(step), late=float(step))
    make.end(key)
    assert watching.end() == 0
    points = [json.loads(line) for _, line in watching.lines if "step" in line]
    assert sorted(p["step"] for p in points if p["key"] == "loss") == list(range(1, 40))
    assert sorted(p["step"] for p in points if p["key"] == "late") == list(range(6, 40))


def test_metrics_without_steps_are_told_by_their_time(watch: Any, own_server: Running) -> None:
    make = Maker(own_server, "stepless")
    key = make.run("stepless")
    watching = watch(key, "--json")
    until(lambda: watching.has("RUNNING"))
    make.log(key, 0, 1000, loss=1.0)
    until(lambda: watching.has('"timestamp":1000'))
    own_server.kill()
    own_server.start()
    make.client = own_server.client
    for time_ in range(1001, 1011):
        make.log(key, 0, time_, loss=1.0)
    make.end(key)
    assert watching.end() == 0
    assert [json.loads(line)["timestamp"] for _, line in watching.lines if "step" in line] == list(range(1000, 1011))


def test_points_that_come_late_are_told_too(watch: Any, server: Any, make: Any) -> None:
    """As from a second process, whose clock and whose relay are behind."""
    key = make.run("ranks")
    watching = watch(key, NORIA_SERVER=server.url, NORIA_TOKEN=server.token)
    _ready(watching, make, key)
    make.log(key, 10, 10_000, loss=1.0)
    make.log(key, 9, 9_000, loss=2.0)
    until(lambda: watching.has("step 9  loss=2"))
    make.end(key)
    assert watching.end() == 0


def test_what_a_script_logs_and_rewinds_is_followed(watch: Any, noria: Any) -> None:
    """From noria.log, through the spool and the relay, to the watch."""
    code = """
import sys, noria
noria.start_run(run_name="scripted")
print(noria.run_id(), flush=True)
for line in sys.stdin:
    exec(line)
"""
    script = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert script.stdin and script.stdout

    def write(line: str) -> None:
        assert script.stdin
        script.stdin.write(line + "\n")
        script.stdin.flush()

    key = script.stdout.readline().strip()
    noria("ps")
    watching = watch(key, "--json")
    until(lambda: watching.has("RUNNING"))
    sent = time.time()
    write("noria.log(loss=1.0, step=7)")
    assert until(lambda: watching.has('"step":7')) - sent < SECOND
    write("noria.rewind(5); noria.log(loss=2.0, step=5)")
    until(lambda: watching.has('"step":5'))
    assert watching.has('"rewind":5')
    write("noria.end_run()")
    assert watching.end() == 0
    script.stdin.close()
    script.stdout.close()
    script.wait()


def test_a_terminal_gets_a_table(server: Any, make: Any) -> None:
    key = make.run("on-a-terminal")
    make.log(key, 3, loss=0.125)
    main, side = pty.openpty()
    env = {**os.environ, "NORIA_SERVER": server.url, "NORIA_TOKEN": server.token, "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-m", "noria.cli.main", "runs", "watch", key], stdout=side, stderr=side, env=env)
    os.close(side)
    seen = b""

    def read(*words: bytes) -> None:
        nonlocal seen
        while not all(word in seen for word in words):
            seen += os.read(main, 65536)

    read(b"on-a-terminal", b"RUNNING", b"0.125")
    make.log(key, 4, loss=0.0625)
    read(b"0.0625")
    make.end(key)
    read(b"is FINISHED")
    assert process.wait(20) == 0
    os.close(main)
