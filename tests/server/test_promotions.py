"""Many who promote at once, and servers that die meanwhile: one champion, and a log that fits together."""

from __future__ import annotations

import base64
import json
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noria.client.http import Server
from noria.door import job_token
from noria.errors import Conflict, NoriaError
from noria.process import whoami
from noria.types import Change, JobSpec
from noria.wire import jobs
from noria.wire import registry as wire
from tests.conftest import Running, new_database, until

CLIENTS = 50


@pytest.fixture(params=["sqlite", "two servers"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Running]]:
    """One server with SQLite, or two homes at one PostgreSQL."""
    if request.param == "sqlite":
        made = [Running(tmp_path / "home")]
    else:
        url = new_database(request.getfixturevalue("postgres"))
        made = [Running(tmp_path / f"home{number}", "--db", url) for number in range(2)]
    yield made
    for each in made:
        each.stop()


def net(server: Running, versions: int) -> None:
    server.client.call(wire.CREATE, wire.CreateModel("net"))
    for _ in range(versions):
        server.client.call(wire.CREATE_VERSION, wire.CreateVersion("net", "s3://bucket/net"))


def lines(server: Running) -> list[Change]:
    """All of the log, the oldest first."""
    found, token = [], ""
    while True:
        page = server.client.call(wire.HISTORY, wire.History("net", max_results=100, page_token=token))
        found += page.changes
        if not (token := page.next_page_token):
            return found[::-1]


def check(server: Running) -> list[Change]:
    """That each line begins where the one before it ended, that they end at what is, and that nobody ever shared Production;
    the lines that tell of stages."""
    stages: dict[str, str] = {}
    told = [
        line
        for line in lines(server)
        if line.action in ("created", "stage", "archived", "promoted", "rolled_back") and line.version
    ]
    for line in told:
        assert stages.get(line.version, "") == line.before, line
        stages[line.version] = line.after
        assert sum(stage == "Production" for stage in stages.values()) <= 1, line
    found = server.client.call(wire.SEARCH_VERSIONS, wire.SearchVersions("name = 'net'")).model_versions
    assert {each.version: each.current_stage for each in found} == stages
    assert sum(each.current_stage == "Production" for each in found) <= 1
    return told


def test_a_line_says_who_asked(server: Running) -> None:
    """Our client its Unix user, others the name beside the token, and a job whose it is."""
    spec = JobSpec(["true"], scheduler="none-here")
    job = server.client.call(jobs.SUBMIT, jobs.Submit(spec, "jobs-user")).job.id
    basic = base64.b64encode(f"zoë:{server.token}".encode()).decode()
    headers = [f"Basic {basic}", f"Bearer {job_token(server.token, job)}", f"Bearer {server.token}"]
    for number, header in enumerate(headers):
        body = json.dumps({"name": f"who {number}"}).encode()
        fields = {"Authorization": header, "Content-Type": "application/json"}
        asked = urllib.request.Request(f"{server.url}{wire.CREATE.path}", body, fields, method="POST")
        urllib.request.urlopen(asked).close()
    server.client.call(wire.CREATE, wire.CreateModel("who 3"))
    said = [server.client.call(wire.HISTORY, wire.History(f"who {number}")).changes[0].user for number in range(4)]
    assert said == ["zoë", "jobs-user", "", whoami()]
    server.client.call(jobs.CANCEL, jobs.Cancel(job))


def at_once(servers: list[Running], work: Callable[[Server, int], None]) -> None:
    """Many clients of their own, which begin together."""
    gate = threading.Barrier(CLIENTS)

    def one(number: int) -> None:
        running = servers[number % len(servers)]
        client = Server(running.url, running.token)
        gate.wait()
        work(client, number)
        client.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, range(CLIENTS)))


@pytest.mark.slow
def test_racing_promotions_leave_one_champion_and_a_whole_history(servers: list[Running]) -> None:
    net(servers[0], CLIENTS)

    def promote(client: Server, number: int) -> None:
        client.call(wire.PROMOTE, wire.Promote("net", str(number + 1), user=f"u{number}", evidence={"number": number}))

    at_once(servers, promote)
    told = check(servers[-1])
    promoted = [line for line in told if line.action == "promoted"]
    assert len(promoted) == CLIENTS and {line.evidence["number"] for line in promoted} == set(range(CLIENTS))
    assert {(line.user, line.version) for line in promoted} == {(f"u{number}", str(number + 1)) for number in range(CLIENTS)}
    assert len([line for line in told if line.action == "archived"]) == CLIENTS - 1


@pytest.mark.slow
def test_racing_transitions_that_archive_leave_one_in_production(servers: list[Running]) -> None:
    net(servers[0], CLIENTS)

    def move(client: Server, number: int) -> None:
        client.call(wire.TRANSITION, wire.Transition("net", str(number + 1), "Production", archive_existing_versions=True))

    at_once(servers, move)
    told = check(servers[-1])
    assert len([line for line in told if line.action == "stage"]) == CLIENTS
    assert len([line for line in told if line.action == "archived"]) == CLIENTS - 1


@pytest.mark.slow
def test_of_those_that_were_measured_against_one_champion_one_takes_its_place(servers: list[Running]) -> None:
    net(servers[0], CLIENTS + 1)
    servers[0].client.call(wire.PROMOTE, wire.Promote("net", "51", champion=""))
    won: list[int] = []

    def promote(client: Server, number: int) -> None:
        try:
            client.call(wire.PROMOTE, wire.Promote("net", str(number + 1), champion="51"))
            won.append(number)
        except Conflict:
            pass

    at_once(servers, promote)
    told = check(servers[-1])
    assert len(won) == 1
    assert [line.version for line in told if line.action == "promoted"] == ["51", str(won[0] + 1)]


@pytest.mark.slow
def test_kill_9_in_the_midst_of_promotions_leaves_the_old_or_the_new_state(servers: list[Running]) -> None:
    net(servers[0], 8)
    chance = random.Random(7)
    answered: set[int] = set()
    for _ in range(12):
        stop, enough = threading.Event(), len(answered) + chance.randint(1, 12)

        def work(number: int, stop: threading.Event = stop) -> None:
            client = Server(servers[0].url, servers[0].token)
            while not stop.is_set():
                try:
                    done = client.call(wire.PROMOTE, wire.Promote("net", str(number + 1)))
                    answered.add(done.change.id)
                except NoriaError:
                    break
            client.close()

        with ThreadPoolExecutor(8) as pool:
            tasks = [pool.submit(work, number) for number in range(8)]
            until(lambda enough=enough: len(answered) >= enough)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.02))
            servers[0].kill()
            stop.set()
            for task in tasks:
                task.result()
        servers[0].start()
        told = check(servers[-1])
        assert answered <= {line.id for line in told if line.action == "promoted"}
        assert sum(each.after == "Production" for each in {line.version: line for line in told}.values()) == 1
