"""Engines: several at once, some of which die; and a storm of events. Each step is done once, in order, within its rule's rate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from noria.server import rules as work
from noria.store import events, steps
from noria.store.store import Store
from noria.wire import rules as wire
from tests.automation.test_rules import DEEDS
from tests.conftest import Running, until


class Clock:
    """One for all, which runs a little with each look."""

    def __init__(self) -> None:
        self.time, self.lock = 1_800_000_000_000, threading.Lock()

    def __call__(self, forward: int = 1) -> int:
        with self.lock:
            self.time += forward
            return self.time


def engine(store: Store, name: str, clock: Clock, log: list[tuple[str, int, int]], over: threading.Event, dies: int = 0) -> None:
    """An engine that writes down what it does, until all is over. dies: whoever does so
    many-th deed says nothing of it, and is gone."""
    while not over.is_set():
        found = store.write(lambda conn: work.claim(conn, wire.Claim(name, 2), clock())).result()
        if found.again > steps.LEASE_MS:
            over.set()
        todo = found.work
        while todo:
            each = todo.pop(0)
            log.append((each.key, each.firing.event.subject["score"], each.firing.started))
            if len(log) == dies:
                over.set()
                return
            said = wire.Report(name, each.firing.id, each.turn, each.key, "done")
            todo += store.write(lambda conn: steps.report(conn, said, clock())).result()  # noqa: B023


def several(stores: list[Store], clock: Clock, log: list[tuple[str, int, int]], dies: int = 0) -> None:
    over = threading.Event()
    threads = [
        threading.Thread(target=engine, args=(stores[number % 2], f"e{number}", clock, log, over, dies)) for number in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(100)


def post(store: Store, count: int, time: int) -> None:
    posted = wire.Post([wire.Posted("x", subject={"score": number}) for number in range(count)])
    store.write(lambda conn: events.post(conn, posted)).result()


def test_a_storm_runs_each_action_once_and_in_order_whatever_engines_there_are(database: Path | str) -> None:
    """Two servers at one database, and four engines, of which one dies between a deed and its report."""
    stores, clock = [Store(database, power=False), Store(database, power=False)], Clock()
    rule = wire.Rule("storm", {"drift": "x"}, [{"note": "x"}])
    stores[0].write(lambda conn: work.add(conn, wire.Add([rule]), "ada", clock())).result()
    post(stores[0], 300, clock())
    log: list[tuple[str, int, int]] = []
    several(stores, clock, log, dies=40)
    clock(steps.LEASE_MS)
    several(stores, clock, log)
    scores = [score for _, score, _ in log]
    again = Counter(key for key, *_ in log)
    twice = [key for key, count in again.items() if count > 1]
    assert len(again) == 300
    assert scores == sorted(scores)
    assert len(twice) == 1  # What the dead one did and did not tell of was asked for again by the same key.
    for store in stores:
        store.close()


def test_a_storm_keeps_to_its_rate(database: Path | str) -> None:
    store, clock = Store(database, power=False), Clock()
    rule = wire.Rule("slow", {"drift": "x"}, [{"note": "x"}], rate="10/m")
    store.write(lambda conn: work.add(conn, wire.Add([rule]), "ada", clock())).result()
    post(store, 100, clock())
    log: list[tuple[str, int, int]] = []
    while len(log) < 100:
        found = store.write(lambda conn: work.claim(conn, wire.Claim("e", 4), clock())).result()
        for each in found.work:
            log.append((each.key, each.firing.event.subject["score"], each.firing.started))
            said = wire.Report("e", each.firing.id, each.turn, each.key, "done", room=False)
            store.write(lambda conn: steps.report(conn, said, clock())).result()  # noqa: B023
        if not found.work:
            clock(max(1, found.again))
    starts = [started for *_, started in log]
    assert [score for _, score, _ in log] == list(range(100))
    assert all(later - first >= 60_000 for first, later in zip(starts, starts[10:], strict=False))
    assert starts[-1] - starts[0] < 9 * 61_000  # And no slower than it must be.
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_thousand_events_at_a_server(own_server: Running) -> None:
    count, client = 10_000, own_server.client
    rule = wire.Rule("storm", {"drift": "x"}, [{"note": "{event.score}"}], rate="500/s")
    client.call(wire.ADD, wire.Add([rule]))
    for first in range(0, count, 1000):
        client.call(wire.POST, wire.Post([wire.Posted("x", subject={"score": first + each}) for each in range(1000)]))
    until(lambda: client.call(wire.GET, wire.Key("storm")).rule.counts == {"done": count}, 350)
    found: list[wire.Firing] = []
    token = ""
    while token or not found:
        page = client.call(wire.HISTORY, wire.History("storm", max_results=1000, page_token=token))
        found, token = found + page.firings, page.next_page_token
    found.reverse()
    assert [each.steps for each in found] == [[{"note": str(number)}] for number in range(count)]
    assert all(first.ended <= later.started for first, later in pairwise(found))
    assert all(b.started - a.started >= 1000 for a, b in zip(found, found[500:], strict=False))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_a_killed_engine_was_at_goes_on_elsewhere_by_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine of a machine of its own dies with `kill -9`; the server's own takes its steps when their leases are over."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(DEEDS), os.environ.get("PYTHONPATH")])))
    running, file = Running(tmp_path / "home"), tmp_path / "log"
    env = {**os.environ, "NORIA_SERVER": running.url, "NORIA_TOKEN": running.token}
    argv = [sys.executable, "-m", "noria.cli.main", "rules", "work", "--workers", "8"]
    other = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert other.stderr is not None
    assert b"works for" in other.stderr.readline()
    client = running.client
    rule = wire.Rule("slow", {"drift": "x"}, [{"slow": 3, "file": str(file)}, {"note": "after"}], at_once=12)
    client.call(wire.ADD, wire.Add([rule]))
    client.call(wire.POST, wire.Post([wire.Posted("x") for _ in range(12)]))
    until(lambda: file.exists() and file.read_text().count("begun") == 12)
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stderr.close()
    until(lambda: client.call(wire.GET, wire.Key("slow")).rule.counts == {"done": 12}, 120)
    words = Counter(line.split()[1] for line in file.read_text().splitlines())
    keys = Counter(line.split()[0] for line in file.read_text().splitlines() if "begun" in line)
    assert (len(keys), words["done"]) == (12, 12)
    lost = [key.partition("-")[0] for key, count in keys.items() if count > 1]
    assert 1 <= len(lost) <= 8
    lines = client.call(wire.FIRING, wire.One(lost[0])).lines
    assert [(each.state, each.step) for each in lines] == [("again", 0), ("done", 0), ("done", 1)]
    assert "was not heard of for 30 s" in lines[0].note
    running.stop()
