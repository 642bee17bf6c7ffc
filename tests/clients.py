"""What the tests of faults share: clients that remember what they were answered, and the comparison with what the server has."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from noria.client.http import Server
from noria.errors import NoriaError, Unavailable
from noria.types import Metric, Param, Tag
from noria.wire import runs, spools
from noria.wire.spools import Begin, Header, Log, Params, Record, Rewind, frame
from tests.conftest import Running

SMALL = """
import noria.store.keeper as keeper, noria.store.metrics as metrics
keeper._HOT, keeper._WARM, keeper._QUIET_SECONDS, keeper._FOLD_SECONDS, metrics.CHUNK, metrics.FOLD = 200, 20, 0.2, 0.05, 64, 32
"""
"""For Running(python=…): a little history is folded and compacted as much would be."""


def database_options(database: Path | str) -> list[str]:
    return [] if isinstance(database, Path) else ["--db", database]


def check(running: Running, *options: str) -> None:
    """`noria server check` finds nothing."""
    argv = [sys.executable, "-m", "noria.cli.main", "server", "--home", str(running.folder), *options, "check"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr


class Client(threading.Thread):
    """Sends until it is told to stop, one request after the other; asks the server's address anew when it gets no answer."""

    def __init__(self, running: Running, seed: int) -> None:
        super().__init__(name=f"client-{seed}", daemon=True)
        self.running, self.seed, self.chance = running, seed, random.Random(seed)
        self.server = Server(running.url, running.token, timeout=20)
        self.over = threading.Event()
        self.problem: BaseException | None = None
        self.answered = self.refused = 0
        self.slowest = 0.0

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self.step()
        except BaseException as error:
            self.problem = error
        self.server.close()

    def step(self) -> None:
        raise NotImplementedError

    def ask(self, work: Callable[[Server], object]) -> bool:
        """Whether it was answered. Unavailable is the only other thing that may happen."""
        begun = time.monotonic()
        try:
            work(self.server)
        except Unavailable:
            self.refused += 1
            self.over.wait(0.05)
            if self.server.url != self.running.url:
                self.server.close()
                self.server = Server(self.running.url, self.running.token, timeout=20)
            return False
        self.answered += 1
        self.slowest = max(self.slowest, time.monotonic() - begun)
        return True

    def finish(self) -> None:
        self.over.set()
        self.join(30)
        assert self.problem is None, f"{self.name}: {self.problem!r}"
        assert not self.is_alive(), f"{self.name} hangs"

    def verify(self, server: Server) -> int:
        """The state against what was answered; how many points were answered and are there."""
        raise NotImplementedError


Point = tuple[str, int, float]


class Logger(Client):
    """Logs by MLflow's endpoints, to a run of its own and to one that all have: points, params and tags, alone and together."""

    def __init__(self, running: Running, seed: int, shared: str) -> None:
        super().__init__(running, seed)
        self.own, self.shared = self.server.call(runs.CREATE, runs.Create()).run.info.run_id, shared
        self.step_now = 0
        self.points: dict[str, tuple[set[Point], set[Point]]] = {self.own: (set(), set()), shared: (set(), set())}
        """Those that were answered and those that may be there, by run."""
        self.params: dict[str, bool] = {}  # All of `own`; whether it was answered.
        self.tags: list[tuple[int, bool]] = []  # The values that tag t had one after the other.
        self.together: list[tuple[set[Point], str]] = []  # What must be there whole or not at all: points and a param of `own`.

    def step(self) -> None:
        run = self.own if self.chance.random() < 0.7 else self.shared
        metrics = [self._metric() for _ in range(self.chance.randint(1, 20))]
        kind = self.chance.random()
        if kind < 0.7:
            self._points(run, metrics, self.ask(lambda server: server.call(runs.LOG_BATCH, runs.LogBatch(run, metrics))))
        elif kind < 0.8:
            one = metrics[0]
            request = runs.LogMetric(one.key, float(one.value), one.timestamp, run, step=one.step)
            self._points(run, [one], self.ask(lambda server: server.call(runs.LOG_METRIC, request)))
        elif kind < 0.9:
            value = len(self.tags)
            request_ = runs.SetTag("t", str(value), self.own)
            self.tags.append((value, self.ask(lambda server: server.call(runs.SET_TAG, request_))))
        else:
            name = f"p{len(self.params)}"
            batch = runs.LogBatch(self.own, metrics, [Param(name, name)], [Tag(name, name)])
            self.params[name] = self.ask(lambda server: server.call(runs.LOG_BATCH, batch))
            self._points(self.own, metrics, self.params[name])
            self.together.append(({(one.key, one.step, float(one.value)) for one in metrics}, name))

    def _metric(self) -> Metric:
        self.step_now += 1
        return Metric(
            f"c{self.seed}/{self.step_now % 3}",
            float(self.chance.randint(0, 10**6)),
            1_700_000_000_000 + self.step_now,
            self.step_now,
        )

    def _points(self, run: str, metrics: list[Metric], answered: bool) -> None:
        self.points[run][0 if answered else 1].update((one.key, one.step, float(one.value)) for one in metrics)

    def verify(self, server: Server) -> int:
        found = server.call(runs.GET, runs.Get(self.own)).run.data
        there = set()
        for run, (sure, maybe) in self.points.items():
            has = history(server, run, f"c{self.seed}/")
            assert sure <= has, f"lost: {sorted(sure - has)[:5]}"
            assert has <= sure | maybe, f"from nowhere: {sorted(has - sure - maybe)[:5]}"
            there |= has if run == self.own else set()
        params, tags = {each.key: each.value for each in found.params}, {each.key: each.value for each in found.tags}
        assert {name for name, answered in self.params.items() if answered} <= params.keys() <= self.params.keys()
        for points, name in self.together:
            assert len({name in params, name in tags, *(point in there for point in points)}) == 1, f"half of {name}"
        possible = [
            value for place, (value, _) in enumerate(self.tags) if not any(answered for _, answered in self.tags[place + 1 :])
        ]
        assert not self.tags or tags.get("t", "") in {str(value) for value in possible} | (
            {""} if not any(a for _, a in self.tags) else set()
        )
        return sum(len(sure) for sure, _ in self.points.values())


class Shipper(Client):
    """A relay: ships the frames of one spool, and goes on where the server says that it is."""

    def __init__(self, running: Running, seed: int) -> None:
        super().__init__(running, seed)
        self.id, self.run_id = f"{seed:032x}", f"spool{seed}"
        header = Header(spools.FORMAT, self.id, self.run_id, "", 0, 0, "here", 1, "1", 1)
        self.data = b"".join(map(frame, [header, Begin("", f"spool {seed}", "me", 1, {}), Params({"lr": "1"})]))
        self.cuts = [len(self.data)]  # Where frames end.
        self.at = self.step_now = 0
        self.held: dict[int, float] = {}  # What the run is to have, by step.

    def step(self) -> None:
        for _ in range(self.chance.randint(1, 10)):
            self._write()
        self._ship()

    def _write(self) -> None:
        record: Record = Log(self.step_now, 1_700_000_000 + len(self.cuts), {"loss": float(self.chance.randint(0, 10**6))})
        if self.chance.random() < 0.03:
            self.step_now = max(0, self.step_now - self.chance.randint(1, 30))
            record = Rewind(self.step_now)
            self.held = {step: value for step, value in self.held.items() if step < self.step_now}
        elif isinstance(record, Log):
            self.held[self.step_now] = record.metrics["loss"]
            self.step_now += 1
        self.data += frame(record)
        self.cuts.append(len(self.data))

    def _ship(self) -> None:
        end = max((cut for cut in self.cuts if cut <= self.at + 4096), default=self.cuts[0])
        end = end if end > self.at else min((cut for cut in self.cuts if cut > self.at), default=self.at)
        asked = spools.Ship(self.id, self.at, self.data[self.at : end])

        def ship(server: Server) -> None:
            self.at = server.call(spools.SHIP, asked).offset

        if not self.ask(ship):
            self.ask(self._look)

    def _look(self, server: Server) -> None:
        self.at = server.call(spools.OFFSET, spools.Key(self.id)).offset

    def verify(self, server: Server) -> int:
        while self.at < len(self.data):
            self._ship()
        self.server.close()
        curve = server.call(runs.CURVE, runs.Curve(self.run_id, "loss"))
        assert dict(zip(curve.steps, curve.values, strict=True)) == self.held and len(curve.steps) == len(self.held)
        assert latest(server, self.run_id)["loss"] == max(self.held.items())
        return len(self.held)


def history(server: Server, run: str, prefix: str) -> set[Point]:
    """All points of a run's metrics with this prefix, none twice, and the last of each as lists have it."""
    found: set[Point] = set()
    last = latest(server, run)
    for key in last:
        if key.startswith(prefix):
            curve = server.call(runs.CURVE, runs.Curve(run, key))
            points = {(key, step, float(value)) for step, value in zip(curve.steps, curve.values, strict=True)}
            assert len(points) == len(curve.steps) == curve.count, f"doubled in {run}: {key}"
            assert max((step, value) for _, step, value in points) == last[key]
            found |= points
    return found


def latest(server: Server, run: str) -> dict[str, tuple[int, float]]:
    return {each.key: (each.step, float(each.value)) for each in server.call(runs.GET, runs.Get(run)).run.data.metrics}


def new_run(running: Running) -> str:
    return running.client.call(runs.CREATE, runs.Create()).run.info.run_id


def refused(work: Callable[[], object]) -> NoriaError:
    """The error of a request that must not succeed."""
    try:
        work()
    except NoriaError as error:
        return error
    raise AssertionError("this was answered as if nothing were wrong")
