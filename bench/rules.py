"""Rules at work: a storm of events at one rule, what an event costs that nobody, one rule or one of many waits for, and an idle engine.

`python bench/rules.py [EVENTS]` starts a server of its own on this machine and prints figures as rows of a table. A firing is one event,
one step (`note`, which does nothing) and its history, each committed before the next begins.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from peers import say

from noria import process
from noria.client.http import Server
from noria.errors import NoriaError
from noria.server import home
from noria.wire import rules as wire

BATCH = 1000
MANY = (0, 1, 10, 100, 1000)
IDLE_SECONDS = 30


def storm(client: Server, count: int) -> tuple[float, float]:
    """Seconds until so many events are posted, and until all their firings are over."""
    client.call(wire.ADD, wire.Add([wire.Rule("storm", {"drift": "storm"}, [{"note": "{event.score}"}])]))
    begun = time.monotonic()
    for first in range(0, count, BATCH):
        post(client, "storm", min(BATCH, count - first))
    posted = time.monotonic() - begun
    while client.call(wire.GET, wire.Key("storm")).rule.counts != {"done": count}:
        time.sleep(0.25)
    return posted, time.monotonic() - begun


def post(client: Server, name: str, count: int) -> None:
    client.call(wire.POST, wire.Post([wire.Posted(name, subject={"score": number}) for number in range(count)]))


def each(client: Server) -> float:
    """Milliseconds of one event that no rule waits for, sent alone: posted, judged, committed."""
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        post(client, "nobody", 1)
        times.append(time.perf_counter() - begun)
    return median(times) * 1000


def cpu(pid: int) -> float:
    """Seconds of computing that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(pid: int) -> float:
    """The share of a core that the server takes, its agent's included."""
    before = cpu(pid)
    time.sleep(IDLE_SECONDS)
    return (cpu(pid) - before) / IDLE_SECONDS


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        child = process.start(
            process.python("noria.cli.main", "server"),
            log=Path(folder) / "log",
            env={**os.environ, "NORIA_HOME": folder},
            cwd="/",
        )
        while (who := home.holder(Path(folder))) is None or not who.here:
            time.sleep(0.05)
        client = Server(who.url, home.token(Path(folder)))
        try:
            measure(client, child.pid, count)
        finally:
            child.terminate()
            child.wait(20)


def measure(client: Server, pid: int, count: int) -> None:
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite, an answer survives a power cut\n"
    )
    print("| | |\n| --- | --- |")
    print(f"| idle, no rules | {idle(pid):.2%} of a core |")
    there = 0
    for many in MANY:
        for number in range(there, many):
            client.call(wire.ADD, wire.Add([wire.Rule(f"rule {number}", {"drift": f"name {number}"}, [{"note": "x"}])]))
        there = many
        print(f"| an event beside {many} rules | {each(client):.2f} ms |")
        say(f"{many} rules done")
    print(f"| idle, {there} rules | {idle(pid):.2%} of a core |")
    before = cpu(pid)
    posted, done = storm(client, count)
    print(f"| {count} events posted, {BATCH} at a time | {count / posted:,.0f}/s |")
    print(
        f"| their firings, in order, one step each | {count / done:,.0f}/s, CPU {(cpu(pid) - before) / count * 1000:.2f} ms each |"
    )


if __name__ == "__main__":
    try:
        main()
    except NoriaError as error:
        sys.exit(error.message)
